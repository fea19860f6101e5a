//! Findings: mistakes and warnings of one configuration, and the order of mistakes in the document.

use std::cell::Cell;
use std::fmt::{Arguments, Write as _};

use rustc_hash::FxHashSet;

use crate::config::defaults;
use crate::config::error::{Code, ConfigError, Finding, MAX_FINDINGS};
use crate::json::{Object, Value};

/// Maximum number of findings that are collected; the first [`MAX_FINDINGS`] in the document are reported.
const MAX_COLLECTED: usize = 5 * MAX_FINDINGS;

/// Returns the value of an environment variable.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Mark of a mistake that is among the findings: the value cannot be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported(pub(super) ());

impl Reported {
    /// Mark of a value that depends on a mistaken one.
    pub(super) const DEPENDS: Self = Self(());
}

/// Environment, findings and warnings of one configuration.
pub(super) struct Context<'a> {
    env: Environment<'a>,
    findings: Cell<Vec<Finding>>,
    warnings: Cell<Vec<String>>,
    /// Paths and texts of warnings about defaults of resources.
    warned_defaults: Cell<FxHashSet<String>>,
    /// Defaults of each resource, in the order of the document.
    defaults: &'a [Object<'a>],
}

impl<'a> Context<'a> {
    pub(super) fn new(env: Environment<'a>, defaults: &'a [Object<'a>]) -> Self {
        Self {
            env,
            findings: Cell::new(Vec::new()),
            warnings: Cell::new(Vec::new()),
            warned_defaults: Cell::new(FxHashSet::default()),
            defaults,
        }
    }

    /// Returns the defaults of the resource at that place in the document.
    pub(super) fn defaults(&self, index: usize) -> Option<&'a Object<'a>> {
        self.defaults.get(index)
    }

    /// Returns the value of an environment variable.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }

    /// Adds a finding, unless the path has one already.
    #[inline(never)]
    pub(super) fn refuse(&self, code: Code, path: String, found: &str, expected: &str) -> Reported {
        let mut findings = self.findings.take();
        if findings.len() < MAX_COLLECTED && !findings.iter().any(|other| other.path == path) {
            let [found, expected] = [found, expected].map(str::to_owned);
            findings.push(Finding { code, path, found, expected });
        }
        self.findings.set(findings);
        Reported(())
    }

    /// Adds a warning: a fact that the operator should know although it is no mistake. A default of resources has each text
    /// once, not once for each resource.
    pub(super) fn warn(&self, path: &str, text: Arguments<'_>) {
        let (mut warned, mut warnings) = (self.warned_defaults.take(), self.warnings.take());
        let warning = format!("{path}: {text}");
        if !path.starts_with(defaults::NAME) || warned.insert(warning.clone()) {
            warnings.push(warning);
        }
        self.warned_defaults.set(warned);
        self.warnings.set(warnings);
    }

    /// Returns the warnings so far.
    pub(super) fn take_warnings(&self) -> Vec<String> {
        self.warnings.take()
    }

    /// Returns what was built, or the first findings in the order of the document.
    pub(super) fn finish<T>(self, built: Result<T, Reported>, members: &Object<'_>) -> Result<T, ConfigError> {
        let mut findings = Findings { unplaced: self.findings.take(), placed: Vec::new() };
        if !findings.unplaced.is_empty() {
            findings.place(&mut String::new(), Err(members));
        }
        let mut findings = findings.placed.into_iter().take(MAX_FINDINGS);
        match (findings.next(), built) {
            (Some(first), _) => Err(ConfigError::new(first, findings.collect())),
            (None, Ok(built)) => Ok(built),
            // A mark comes with a finding. If it does not, the configuration is refused all the same.
            (None, Err(Reported(()))) => Err(not_an_object("no object")),
        }
    }
}

/// Findings that are being brought into the order of the document.
struct Findings {
    unplaced: Vec<Finding>,
    placed: Vec<Finding>,
}

impl Findings {
    /// Places the findings about a value, those about the values in it, and those about values that it lacks.
    fn place(&mut self, path: &mut String, value: Result<&Value<'_>, &Object<'_>>) {
        let length = path.len();
        self.take(&|found| found == *path);
        let mut visit = |step: Arguments<'_>, value| {
            // Writing to a string does not fail.
            let _ = path.write_fmt(step);
            self.place(path, Ok(value));
            path.truncate(length);
        };
        match value {
            Err(members) | Ok(Value::Object(members)) => {
                let dot = if length == 0 { "" } else { "." };
                members.members().for_each(|(name, value)| visit(format_args!("{dot}{name}"), value));
            }
            Ok(Value::Array(items)) => {
                items.iter().enumerate().for_each(|(index, value)| visit(format_args!("[{index}]"), value));
            }
            Ok(_) => {}
        }
        self.take(&|found| found.strip_prefix(&**path).is_some_and(|rest| length == 0 || rest.starts_with(['.', '['])));
    }

    fn take(&mut self, is_here: &dyn Fn(&str) -> bool) {
        for finding in std::mem::take(&mut self.unplaced) {
            let list = if is_here(&finding.path) { &mut self.placed } else { &mut self.unplaced };
            list.push(finding);
        }
    }
}

/// Error about bytes that hold no configuration.
pub(super) fn not_an_object(found: &str) -> ConfigError {
    let (path, expected) = ("the configuration", "a Struct, or a StringValue that holds a JSON object");
    let [path, found, expected] = [path, found, expected].map(str::to_owned);
    ConfigError::new(Finding { code: Code::NotAnObject, path, found, expected }, Vec::new())
}
