//! The compiled filter: found once, compiled once for all tests of a process.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use wasmtime::{Config, Engine, OptLevel};

use crate::setup::Setup;

/// A compiled proxy-wasm module.
pub struct Module {
    pub(crate) engine: Engine,
    pub(crate) code: wasmtime::Module,
}

impl Module {
    /// The filter under test. Fails, and says what to do, if it hasn't been built.
    ///
    /// It is looked for in `ONBEHALF_WASM`, then as `target/onbehalf.wasm`, then where a plain
    /// `cargo build --release --target wasm32-wasip1` leaves it.
    #[must_use]
    pub fn filter() -> &'static Self {
        static FILTER: OnceLock<Module> = OnceLock::new();
        FILTER.get_or_init(|| Self::read(&Self::path()))
    }

    /// The path of the filter under test.
    #[must_use]
    pub fn path() -> PathBuf {
        if let Some(path) = std::env::var_os("ONBEHALF_WASM") {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "ONBEHALF_WASM names {}, which is no file: run make build", path.display());
            return path;
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let places = ["target/onbehalf.wasm", "target/wasm32-wasip1/release/onbehalf.wasm"];
        let found = places.iter().map(|place| root.join(place)).find(|path| path.is_file());
        found.unwrap_or_else(|| panic!("no module at {}: run make build", places.join(" or ")))
    }

    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}: run make build", path.display()));
        Self::compile(&bytes)
    }

    /// Compiles any module, which must speak ABI 0.2.x.
    #[must_use]
    pub fn compile(bytes: &[u8]) -> Self {
        let mut config = Config::new();
        // A test runs each function a few times: compiling fast beats code that runs fast.
        config.cranelift_opt_level(OptLevel::None);
        let engine = Engine::new(&config).expect("this machine can run wasmtime");
        let code = wasmtime::Module::new(&engine, bytes).expect("a valid WebAssembly module");
        let abi = ["proxy_abi_version_0_2_1", "proxy_abi_version_0_2_0"];
        assert!(
            abi.iter().any(|name| code.get_export(name).is_some()),
            "the module speaks no ABI that this host knows"
        );
        Self { engine, code }
    }

    /// The imports of the module, as `module.function`.
    #[must_use]
    pub fn imports(&self) -> Vec<String> {
        self.code.imports().map(|import| format!("{}.{}", import.module(), import.name())).collect()
    }

    /// The functions and the memory that the module offers to its host.
    #[must_use]
    pub fn exports(&self) -> Vec<String> {
        self.code.exports().map(|export| export.name().to_owned()).collect()
    }

    /// Begins to set up a VM for this module.
    #[must_use]
    pub fn host(&self) -> Setup<'_> {
        Setup::new(self)
    }
}
