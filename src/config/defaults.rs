//! Defaults of resources: `resource_defaults`, made out for each resource.

use std::borrow::Cow;

use crate::json::{Object, Value};
use crate::url::Url;

/// Name of the option.
pub(super) const NAME: &str = "resource_defaults";

/// Text that stands for the `url` of the resource.
const URL: &str = "{url}";

/// Text that stands for the path of the `url`.
const PATH: &str = "{path}";

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
        url.and_then(|url| Url::parse(url).ok()).or_else(|| Url::parse(NO_URL).ok())
    };
    let filled = |resource| url(resource).map_or_else(|| defaults.clone(), |url| filled_object(defaults, &url));
    resources.iter().map(filled).collect()
}

fn filled_object<'a>(object: &Object<'a>, url: &Url) -> Object<'a> {
    object.map_values(|value| filled(value, url))
}

fn filled<'a>(value: &Value<'a>, url: &Url) -> Value<'a> {
    match value {
        Value::String(text) if [URL, PATH].iter().any(|name| text.contains(name)) => {
            Value::String(Cow::Owned(text.replace(PATH, url.path()).replace(URL, url.as_str())))
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| filled(item, url)).collect()),
        Value::Object(object) => Value::Object(filled_object(object, url)),
        other => other.clone(),
    }
}
