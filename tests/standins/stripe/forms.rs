//! Stripe's form encoding: `a[b][0][c]=…` to nested JSON, and typed reads of it.

use serde_json::{Map, Value};

use super::refusal::Refusal;

/// The nested JSON of an encoded form or query string; every leaf is a string.
///
/// `a[0]`, `a[]` and `a[][k]` make arrays; keys below `metadata` are always names.
pub(super) fn parse(encoded: &[u8]) -> Value {
    let mut root = Map::new();
    for (key, value) in url::form_urlencoded::parse(encoded) {
        insert(&mut root, &segments(&key), value.into_owned());
    }
    settle(Value::Object(root), false)
}

fn segments(key: &str) -> Vec<String> {
    let Some((head, rest)) = key.split_once('[') else {
        return vec![key.to_owned()];
    };
    let mut all = vec![head.to_owned()];
    let rest = rest.strip_suffix(']').unwrap_or(rest);
    all.extend(rest.split("][").map(str::to_owned));
    all
}

fn insert(into: &mut Map<String, Value>, path: &[String], value: String) {
    let Some((head, rest)) = path.split_first() else {
        return;
    };
    let key = if head.is_empty() { open_index(into, rest) } else { head.clone() };
    if rest.is_empty() {
        into.insert(key, Value::String(value));
        return;
    }
    let slot = into.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    if let Value::Object(inner) = slot {
        insert(inner, rest, value);
    }
}

/// `a[]=1&a[]=2` appends; `a[][k]=1&a[][l]=2` fills one element until a name repeats.
fn open_index(into: &Map<String, Value>, rest: &[String]) -> String {
    let next = into.len();
    let fits_last = rest.first().is_some_and(|name| {
        next > 0
            && into.get(&(next - 1).to_string()).and_then(Value::as_object).is_some_and(|last| !last.contains_key(name))
    });
    (if fits_last { next - 1 } else { next }).to_string()
}

fn settle(value: Value, names_only: bool) -> Value {
    let Value::Object(map) = value else {
        return value;
    };
    let numbered = !names_only && !map.is_empty() && map.keys().all(|key| key.bytes().all(|b| b.is_ascii_digit()));
    if numbered {
        let mut rows: Vec<(u64, Value)> =
            map.into_iter().map(|(key, inner)| (key.parse().unwrap_or(u64::MAX), settle(inner, false))).collect();
        rows.sort_by_key(|(index, _)| *index);
        return Value::Array(rows.into_iter().map(|(_, inner)| inner).collect());
    }
    Value::Object(
        map.into_iter()
            .map(|(key, inner)| {
                let inner = settle(inner, key == "metadata");
                (key, inner)
            })
            .collect(),
    )
}

/// The text at a dotted path, `None` when absent or empty.
pub(super) fn text<'a>(params: &'a Value, path: &str) -> Option<&'a str> {
    at(params, path)?.as_str().filter(|found| !found.is_empty())
}

/// The value at a dotted path (`recurring.interval`, `items.0.price`).
pub(super) fn at<'a>(params: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(params, |inner, key| match inner {
        Value::Array(rows) => rows.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    })
}

/// A parameter that must be there.
pub(super) fn required<'a>(params: &'a Value, path: &str) -> Result<&'a str, Refusal> {
    text(params, path).ok_or_else(|| Refusal::missing_parameter(path))
}

/// A whole number, if given.
pub(super) fn integer(params: &Value, path: &str) -> Result<Option<i64>, Refusal> {
    text(params, path)
        .map(|found| {
            found.parse().map_err(|_| {
                Refusal::invalid(format!("Invalid integer: {found}"), path).with_code("parameter_invalid_integer")
            })
        })
        .transpose()
}

/// `true` or `false`, if given.
pub(super) fn boolean(params: &Value, path: &str) -> Result<Option<bool>, Refusal> {
    match text(params, path) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => Err(Refusal::invalid(format!("Invalid boolean: {other}"), path)),
    }
}

/// The texts of a list parameter (`types[]=…`).
pub(super) fn texts(params: &Value, path: &str) -> Vec<String> {
    match at(params, path) {
        Some(Value::Array(rows)) => rows.iter().filter_map(|row| row.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// Refuses every parameter that is not in `known`.
pub(super) fn only(params: &Value, known: &[&str]) -> Result<(), Refusal> {
    let Some(map) = params.as_object() else {
        return Ok(());
    };
    for key in map.keys() {
        if key != "expand" && !known.contains(&key.as_str()) {
            return Err(Refusal::unknown_parameter(key));
        }
    }
    Ok(())
}

/// Merges `metadata[…]` into an object's metadata; an empty value removes the key.
pub(super) fn merge_metadata(object: &mut Value, given: Option<&Value>) {
    let Some(target) = object["metadata"].as_object_mut() else {
        return;
    };
    match given {
        Some(Value::Object(changes)) => {
            for (key, value) in changes {
                if value.as_str() == Some("") {
                    target.remove(key);
                } else {
                    target.insert(key.clone(), value.clone());
                }
            }
        }
        Some(Value::String(empty)) if empty.is_empty() => target.clear(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{boolean, integer, only, parse, text};

    #[test]
    fn brackets_become_nested_objects_and_arrays() {
        let parsed = parse(
            b"line_items[0][price]=price_1&line_items[0][quantity]=2&line_items[1][price]=p2&metadata[7]=x&expand[]=a&expand[]=b.c",
        );
        assert_eq!(
            parsed,
            json!({
                "line_items": [{"price": "price_1", "quantity": "2"}, {"price": "p2"}],
                "metadata": {"7": "x"},
                "expand": ["a", "b.c"],
            })
        );
    }

    #[test]
    fn percent_encoded_brackets_and_unnumbered_elements_are_read() {
        let parsed = parse(b"items%5B%5D%5Bid%5D=si_1&items[][price]=p+1&items[][id]=si_2");
        assert_eq!(parsed, json!({"items": [{"id": "si_1", "price": "p 1"}, {"id": "si_2"}]}));
    }

    #[test]
    fn more_than_ten_elements_keep_their_order() {
        let encoded: Vec<String> = (0..12).map(|n| format!("a[{n}]=v{n}")).collect();
        let parsed = parse(encoded.join("&").as_bytes());
        assert_eq!(text(&parsed, "a.2"), Some("v2"));
        assert_eq!(text(&parsed, "a.11"), Some("v11"));
    }

    #[test]
    fn wrong_types_and_unknown_names_are_refused() {
        let parsed = parse(b"limit=ten&active=yes");
        assert!(integer(&parsed, "limit").is_err());
        assert!(boolean(&parsed, "active").is_err());
        assert!(only(&parsed, &["limit"]).is_err());
        assert!(only(&parsed, &["limit", "active"]).is_ok());
    }
}
