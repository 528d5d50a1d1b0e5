//! One built module in, one module to ship out. Pure: the same bytes give the same bytes.

use anyhow::{Context as _, bail};
use walrus::{Module, ModuleConfig, passes};

use crate::callbacks::{self, Declaration};

/// A plugin as it is shipped.
pub(crate) struct Package {
    /// The module.
    pub(crate) wasm: Vec<u8>,
    /// The optional callbacks that it exports, sorted.
    pub(crate) callbacks: Vec<String>,
    /// Whether the plugin declared them; if not, none was dropped.
    pub(crate) declared: bool,
}

/// Reduces a built plugin to what Envoy needs of it.
///
/// Envoy calls each callback that a module exports, and the SDK exports them all, so a plugin
/// would be entered for every chunk of every body without having any use for it. The exports that
/// the plugin does not declare are dropped, and with them the code and the imports that only they
/// reached. Sections for debuggers go, too; who built the module and what it declares stay.
///
/// # Errors
///
/// If `built` is not a valid module, if its declaration is wrong, or names a callback that the
/// module does not export.
pub(crate) fn package(built: &[u8]) -> anyhow::Result<Package> {
    let mut config = ModuleConfig::new();
    config.generate_name_section(false);
    let mut module = config.parse(built).context("not a valid wasm module")?;

    let declaration = declaration(&module)?;
    if let Some(declaration) = &declaration {
        drop_exports(&mut module, declaration)?;
        passes::gc::run(&mut module);
    }
    drop_custom_sections(&mut module);

    let wasm = module.emit_wasm();
    wasmparser::validate(&wasm).context("the packaged module is not valid")?;
    Ok(Package {
        wasm,
        callbacks: optional_exports(&module),
        declared: declaration.is_some(),
    })
}

fn declaration(module: &Module) -> anyhow::Result<Option<Declaration>> {
    let mut sections = module
        .customs
        .iter()
        .filter(|(_, section)| section.name() == callbacks::SECTION);
    let Some((_, section)) = sections.next() else {
        return Ok(None);
    };
    if sections.next().is_some() {
        bail!("the section {:?} occurs twice", callbacks::SECTION);
    }
    let contents = section.data(&walrus::IdsToIndices::default());
    Ok(Some(Declaration::parse(&contents)?))
}

fn drop_exports(module: &mut Module, declaration: &Declaration) -> anyhow::Result<()> {
    let unexported = |callback: &&str| !module.exports.iter().any(|it| it.name == *callback);
    if let Some(callback) = declaration.iter().find(unexported) {
        bail!("{callback} is declared but not exported by the module");
    }

    let unneeded = |name: &str| !callbacks::is_essential(name) && !declaration.contains(name);
    let exports = module.exports.iter();
    let unneeded: Vec<_> = exports
        .filter(|export| unneeded(&export.name))
        .map(|export| export.id())
        .collect();
    for id in unneeded {
        module.exports.delete(id);
    }
    Ok(())
}

fn drop_custom_sections(module: &mut Module) {
    // `target_features` tells optimisers which instructions the module may use.
    let kept = |name: &str| name.starts_with("tollgate.") || name == "target_features";
    let unneeded: Vec<_> = module
        .customs
        .iter()
        .filter(|(_, section)| !kept(section.name()))
        .map(|(id, _)| id)
        .collect();
    for id in unneeded {
        module.customs.delete(id);
    }
}

fn optional_exports(module: &Module) -> Vec<String> {
    let names = module.exports.iter().map(|export| export.name.clone());
    let mut callbacks: Vec<_> = names.filter(|it| callbacks::is_optional(it)).collect();
    callbacks.sort();
    callbacks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module in the shape of a plugin. The body callback alone reaches `only_body` and the
    /// import `proxy_get_buffer_bytes`; `through_table` is reached by its address only.
    fn plugin(sections: &str) -> Vec<u8> {
        let text = format!(
            r#"(module
                (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
                (import "env" "proxy_get_buffer_bytes" (func $buffer (result i32)))
                (memory (export "memory") 1)
                (data (i32.const 16) "a constant")
                (table 2 2 funcref)
                (elem (i32.const 1) $through_table)
                (global $stack (mut i32) (i32.const 4096))
                (func (export "_initialize") (global.set $stack (i32.const 8192)))
                (func (export "proxy_abi_version_0_2_1"))
                (func (export "proxy_on_memory_allocate") (param i32) (result i32)
                    (global.get $stack))
                (func (export "proxy_on_context_create") (param i32 i32))
                (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
                (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 1))
                (func (export "proxy_on_done") (param i32) (result i32) (i32.const 1))
                (func (export "proxy_on_delete") (param i32))
                (func (export "proxy_on_log") (param i32))
                (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                    (drop (call $log (i32.const 0) (i32.const 16) (i32.const 10)))
                    (call_indirect (result i32) (i32.const 1)))
                (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
                    (call $only_body))
                (func $only_body (result i32) (call $buffer))
                (func $through_table (result i32) (i32.const 0))
                (func (export "some_helper"))
                {sections}
            )"#
        );
        wat::parse_str(text).unwrap()
    }

    const HEADERS_ONLY: &str = r#"(@custom "tollgate.callbacks" "proxy_on_request_headers\00")"#;

    fn parsed(wasm: &[u8]) -> Module {
        Module::from_buffer(wasm).unwrap()
    }

    fn exports(wasm: &[u8]) -> Vec<String> {
        let module = parsed(wasm);
        module.exports.iter().map(|it| it.name.clone()).collect()
    }

    fn imports(wasm: &[u8]) -> Vec<String> {
        let module = parsed(wasm);
        module.imports.iter().map(|it| it.name.clone()).collect()
    }

    fn sections(wasm: &[u8]) -> Vec<String> {
        let payloads = wasmparser::Parser::new(0).parse_all(wasm);
        payloads
            .filter_map(|payload| match payload.unwrap() {
                wasmparser::Payload::CustomSection(it) => Some(it.name().to_owned()),
                _ => None,
            })
            .collect()
    }

    fn rejected(built: &[u8]) -> String {
        format!("{:#}", package(built).err().unwrap())
    }

    #[test]
    fn undeclared_callbacks_go() {
        let package = package(&plugin(HEADERS_ONLY)).unwrap();
        assert!(package.declared);
        assert_eq!(package.callbacks, ["proxy_on_request_headers"]);
        assert_eq!(
            exports(&package.wasm),
            [
                "memory",
                "_initialize",
                "proxy_abi_version_0_2_1",
                "proxy_on_memory_allocate",
                "proxy_on_context_create",
                "proxy_on_vm_start",
                "proxy_on_configure",
                "proxy_on_delete",
                "proxy_on_request_headers",
            ]
        );
    }

    #[test]
    fn what_only_they_reached_goes_with_them() {
        let built = plugin(HEADERS_ONLY);
        let package = package(&built).unwrap();
        assert_eq!(imports(&package.wasm), ["proxy_log"]);
        let functions = |wasm: &[u8]| parsed(wasm).funcs.iter_local().count();
        // proxy_on_done, proxy_on_log, proxy_on_request_body, only_body, some_helper
        assert_eq!(functions(&built) - functions(&package.wasm), 5);
        assert_eq!(parsed(&package.wasm).data.iter().count(), 1);
    }

    #[test]
    fn a_plugin_that_needs_none_exports_none() {
        let package = package(&plugin(r#"(@custom "tollgate.callbacks" "")"#)).unwrap();
        assert!(package.declared);
        assert!(package.callbacks.is_empty());
        assert!(imports(&package.wasm).is_empty());
    }

    #[test]
    fn a_module_without_a_declaration_keeps_everything() {
        let built = plugin("");
        let package = package(&built).unwrap();
        assert!(!package.declared);
        assert_eq!(
            package.callbacks,
            [
                "proxy_on_done",
                "proxy_on_log",
                "proxy_on_request_body",
                "proxy_on_request_headers"
            ]
        );
        assert_eq!(exports(&package.wasm), exports(&built));
        assert_eq!(imports(&package.wasm), imports(&built));
    }

    #[test]
    fn sections_for_debuggers_go_and_declarations_stay() {
        let built = plugin(&format!(
            r#"{HEADERS_ONLY}
            (@custom "tollgate.version" "1.2.3")
            (@custom "target_features" "\00")
            (@custom ".debug_info" "x")
            (@custom "sourceMappingURL" "x")
            (@producers (language "Rust" "1.95"))"#
        ));
        assert!(sections(&built).contains(&"name".to_owned()));
        let package = package(&built).unwrap();
        assert_eq!(
            sections(&package.wasm),
            [
                "producers",
                "tollgate.callbacks",
                "tollgate.version",
                "target_features"
            ]
        );
    }

    #[test]
    fn packaging_repeats_exactly_and_is_idempotent() {
        for built in [plugin(HEADERS_ONLY), plugin("")] {
            let once = package(&built).unwrap();
            assert_eq!(once.wasm, package(&built).unwrap().wasm);
            assert_eq!(once.wasm, package(&once.wasm).unwrap().wasm);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let unknown = rejected(&plugin(
            r#"(@custom "tollgate.callbacks" "proxy_on_teapot")"#,
        ));
        assert!(unknown.contains("\"proxy_on_teapot\""), "{unknown}");

        let absent = rejected(&plugin(r#"(@custom "tollgate.callbacks" "proxy_on_tick")"#));
        assert_eq!(
            absent,
            "proxy_on_tick is declared but not exported by the module"
        );

        let twice = rejected(&plugin(&format!("{HEADERS_ONLY}{HEADERS_ONLY}")));
        assert!(twice.contains("occurs twice"), "{twice}");

        let garbage = rejected(b"\0asm and then nothing");
        assert!(
            garbage.starts_with("not a valid wasm module: "),
            "{garbage}"
        );
    }
}
