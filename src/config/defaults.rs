//! Defaults of resources: `resource_defaults`, made out for each resource.

use std::borrow::Cow;

use crate::json::{Object, Value};
use crate::url::Url;

/// Name of the option.
pub(super) const NAME: &str = "resource_defaults";

/// Text that stands for the `url` of the resource.
const PLACEHOLDER: &str = "{url}";

/// URL in place of a mistaken one, so that no other mistake follows from it.
const NO_URL: &str = "https://resource.invalid/path";

/// Returns the defaults for each resource, in the order of the document. Empty: there are none.
pub(super) fn of_resources<'a>(root: &'a Object<'a>) -> Vec<Object<'a>> {
    let defaults = root.present(NAME).and_then(Value::as_object);
    let resources = root.present("resources").and_then(Value::as_array);
    let (Some(defaults), Some(resources)) = (defaults, resources) else {
        return Vec::new();
    };
    let url = |resource: &Value<'_>| {
        let url = resource.as_object().and_then(|members| members.string("url"));
        url.filter(|url| Url::parse(url).is_ok()).unwrap_or(NO_URL).to_owned()
    };
    resources.iter().map(|resource| filled_object(defaults, &url(resource))).collect()
}

fn filled_object<'a>(object: &Object<'a>, url: &str) -> Object<'a> {
    object.map_values(|value| filled(value, url))
}

fn filled<'a>(value: &Value<'a>, url: &str) -> Value<'a> {
    match value {
        Value::String(text) if text.contains(PLACEHOLDER) => Value::String(Cow::Owned(text.replace(PLACEHOLDER, url))),
        Value::Array(items) => Value::Array(items.iter().map(|item| filled(item, url)).collect()),
        Value::Object(object) => Value::Object(filled_object(object, url)),
        other => other.clone(),
    }
}
