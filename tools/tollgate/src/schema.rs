//! `tollgate schema`: the JSON Schema of the document, as it is shipped in `docs/`.

/// The schema.
pub const TEXT: &str = include_str!("../../../docs/tollgate.schema.json");
