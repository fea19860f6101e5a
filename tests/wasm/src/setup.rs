//! Setup of a VM: the part of Envoy's configuration that a filter can observe.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::Host;
use crate::module::Module;
use crate::vm::{Cluster, Vm};
use crate::world::World;

/// Envoy's level unless `-l` says otherwise.
const INFO: u32 = 2;

/// A VM before its start.
pub struct Setup<'a> {
    pub(crate) module: &'a Module,
    pub(crate) world: World,
    pub(crate) vm_id: String,
    pub(crate) configuration: Vec<u8>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) clusters: BTreeMap<String, Cluster>,
    pub(crate) denied: BTreeSet<String>,
    pub(crate) absent_foreign: BTreeSet<String>,
    pub(crate) properties: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) log_level: u32,
    pub(crate) survives_traps: bool,
}

impl<'a> Setup<'a> {
    pub(crate) fn new(module: &'a Module) -> Self {
        Self {
            module,
            world: World::default(),
            vm_id: String::new(),
            configuration: Vec::new(),
            environment: Vec::new(),
            clusters: BTreeMap::new(),
            denied: BTreeSet::new(),
            absent_foreign: BTreeSet::new(),
            properties: BTreeMap::new(),
            log_level: INFO,
            survives_traps: false,
        }
    }

    /// Puts the VM into `world`, with its other VMs.
    #[must_use]
    pub fn world(mut self, world: &World) -> Self {
        self.world = world.clone();
        self
    }

    /// The namespace of shared data and queues. Empty, as in Istio, unless set.
    #[must_use]
    pub fn vm_id(mut self, vm_id: &str) -> Self {
        vm_id.clone_into(&mut self.vm_id);
        self
    }

    /// The plugin configuration, as the filter reads it.
    #[must_use]
    pub fn configuration(mut self, configuration: impl AsRef<[u8]>) -> Self {
        self.configuration = configuration.as_ref().to_vec();
        self
    }

    /// An environment variable that the VM is given.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A cluster that callouts may name.
    #[must_use]
    pub fn cluster(mut self, name: &str) -> Self {
        self.clusters.insert(name.to_owned(), Cluster::Known);
        self
    }

    /// Omits a foreign function (`verify_signature`, `sign`), as an older Envoy or another host does.
    #[must_use]
    pub fn without_foreign_function(mut self, name: &str) -> Self {
        self.absent_foreign.insert(name.to_owned());
        self
    }

    /// Restricts a capability the way Envoy's `capability_restriction_config` does: by import or callback name.
    #[must_use]
    pub fn deny(mut self, capability: &str) -> Self {
        self.denied.insert(capability.to_owned());
        self
    }

    /// A property, with dots in its path.
    #[must_use]
    pub fn property(mut self, path: &str, value: &[u8]) -> Self {
        self.properties.insert(path.replace('.', "\0").into_bytes(), value.to_vec());
        self
    }

    /// The log level that the filter reads, 0 (trace) to 5 (critical); info by default. The host keeps every line,
    /// whatever its level.
    #[must_use]
    pub fn log_level(mut self, level: u32) -> Self {
        self.log_level = level;
        self
    }

    /// A trap is recorded for [`Host::trap`] instead of failing the test.
    #[must_use]
    pub fn survives_traps(mut self) -> Self {
        self.survives_traps = true;
        self
    }

    /// Instantiates the module and configures it. [`Host::configured`] tells if the filter accepted.
    #[must_use]
    pub fn start(self) -> Host {
        let module = self.module;
        Host::start(module, Vm::new(self))
    }
}
