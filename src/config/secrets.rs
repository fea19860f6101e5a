//! Secrets: values from the environment or from the configuration itself.

use crate::config::error::Code;
use crate::config::findings::Reported;
use crate::config::reader::Fields;
use crate::secret::Secret;

/// Reads a secret, which must be there.
pub(super) fn secret(parent: &Fields<'_>, name: &str) -> Result<Secret, Reported> {
    read(parent, name, true)
}

/// Reads a certificate, which is given like a secret and is none.
pub(super) fn certificate(parent: &Fields<'_>, name: &str) -> Result<Secret, Reported> {
    read(parent, name, false)
}

fn read(parent: &Fields<'_>, name: &str, is_secret: bool) -> Result<Secret, Reported> {
    let fields = parent.required_object(name)?;
    if let Some(name) = fields.text("env")? {
        return variable(&fields, name);
    }
    let value = fields.required_text("inline")?;
    if is_secret {
        let text = format_args!("a secret in the configuration is shown by Envoy's /config_dump; use env");
        fields.warn("inline", text);
    }
    Ok(Secret::new(value.to_owned()))
}

/// Returns the value of the environment variable that the field `env` names.
pub(super) fn variable(fields: &Fields<'_>, name: &str) -> Result<Secret, Reported> {
    match fields.context.variable(name) {
        Some(value) if !value.trim().is_empty() => Ok(Secret::new(value.trim().to_owned())),
        _ => {
            // The name may be the secret itself, in the wrong place.
            let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
            let is_shown = name.len() <= 64 && name.bytes().all(is_name);
            let name = if is_shown { name } else { "a name that is not made of A-Z, 0-9 and _" };
            let found = format!("{name}, which is not set, or empty, in the filter's environment");
            let expected = "a variable of Envoy's environment that vm_config.environment_variables.host_env_keys lists";
            Err(fields.refuse(Code::UnsetVariable, "env", &found, expected))
        }
    }
}
