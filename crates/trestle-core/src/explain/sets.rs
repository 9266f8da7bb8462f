//! What is in a host's sets and maps.

use std::collections::BTreeMap;

use super::frame::Value;
use crate::spec::{Key, Object, Set};

/// The element of the set that these values fit, and what it leads to.
pub(super) fn find<'a>(
    objects: &'a BTreeMap<Key, Object>,
    set: Set,
    values: &[Value],
) -> Option<(&'a Key, &'a str)> {
    let text: Vec<String> = values.iter().map(ToString::to_string).collect();
    let exact = objects.get_key_value(&Key::Element(set, text.join(" . ")));
    let exact = exact.map(|(key, object)| (key, leads_to(object)));
    // An element may be a range, or a name that stands for a number.
    exact.or_else(|| {
        elements(objects, set).find_map(|(key, element, to)| fits(element, values).then_some((key, to)))
    })
}

/// All elements of the set: each as it is written, and what it leads to.
pub(super) fn elements(
    objects: &BTreeMap<Key, Object>,
    set: Set,
) -> impl Iterator<Item = (&Key, &str, &str)> {
    let all = objects.range(Key::Element(set, String::new())..);
    all.map_while(move |(key, object)| match key {
        Key::Element(of, element) if *of == set => Some((key, &element[..], leads_to(object))),
        _ => None,
    })
}

fn leads_to(object: &Object) -> &str {
    match object {
        Object::Mapping(to) => to,
        _ => "",
    }
}

fn fits(element: &str, values: &[Value]) -> bool {
    let parts: Vec<&str> = element.split(" . ").collect();
    parts.len() == values.len() && parts.iter().zip(values).all(|(part, value)| value.is(part))
}
