//! Single keys of a scenario, changed from outside: `--set task.rounds=20`.
//!
//! It knows no key: what is no key of a scenario is refused where the changed file is read.
//! Start at [`apply`].

use crate::error::SimError;
use koinon_proto::nearest::nearest;

/// Applies one `dotted.key=value`; the value is TOML, or a bare string.
pub(super) fn apply(table: &mut toml::Table, set: &str) -> Result<(), SimError> {
    let (key, value) = set.split_once('=').ok_or_else(|| {
        SimError::scenario(format!("--set {set}: write key=value, for example task.rounds=10"))
    })?;
    let mut path: Vec<&str> = key.trim().split('.').collect();
    let last = path.pop().filter(|last| !last.is_empty());
    let last = last.ok_or_else(|| SimError::scenario(format!("--set {set}: the key is empty")))?;
    let mut here = table;
    for part in path {
        let known: Vec<String> = here.keys().cloned().collect();
        here = here
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| {
                let near = nearest(part, known.iter().map(String::as_str));
                let hint = near.map(|n| format!("; nearest: {n}")).unwrap_or_default();
                SimError::scenario(format!("--set {set}: {part} is a value, no section{hint}"))
            })?;
    }
    here.insert(last.to_owned(), toml_value(value.trim()));
    Ok(())
}

fn toml_value(text: &str) -> toml::Value {
    let parsed = toml::from_str::<toml::Table>(&format!("v = {text}"));
    let value = parsed.ok().and_then(|mut table| table.remove("v"));
    value.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}
