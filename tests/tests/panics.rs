//! What is left in the shipped plugins that could panic.
//!
//! The lints keep panics out of our own code as far as they see it. This looks into the modules
//! themselves: everything that can be reached from an export is searched for addresses of a
//! `core::panic::Location`, which every panic with a message passes on and nothing else does here.
//! So each place that could panic is found by the file in which it was written, also where it was
//! inlined. What is found must be in `panics.txt`, with the reason why it is there.
//!
//! It errs on the side of finding too much: an indirect call is taken to reach every function of its
//! type, and no condition in front of a panic is looked at. What it can't see: a trap that is no
//! panic, as the end of the stack, or memory that runs out where no message is left to be written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use tollgate_tests::{plugin, repository};
use walrus::ir::{
    Call, CallIndirect, Const, RefFunc, ReturnCall, ReturnCallIndirect, Value, Visitor,
};
use walrus::{
    ConstExpr, DataKind, ElementItems, ExportItem, FunctionId, FunctionKind, Module, TypeId,
};

const PLUGINS: [&str; 7] = [
    "jwt-authz",
    "problem-details",
    "rate-limit",
    "request-id",
    "sunset",
    "tollgate",
    "usage-plan",
];

/// `panics.txt`: the beginnings of paths in which panics may be. What is indented by nothing and
/// begins with `#` is the reason for the paths below it.
fn allowed() -> BTreeSet<String> {
    let path = repository().join("tests/tests/panics.txt");
    let text = fs::read_to_string(path).unwrap();
    let mut allowed = BTreeSet::new();
    let mut has_reason = false;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.starts_with('#') {
            true => has_reason = true,
            false => {
                assert!(has_reason, "no reason for {line}");
                assert!(allowed.insert(line.to_owned()), "{line} is there twice");
            }
        }
    }
    allowed
}

#[test]
fn every_panic_that_is_left_has_a_reason() {
    let allowed = allowed();
    let mut used = BTreeSet::new();
    let mut found = BTreeSet::new();
    for name in PLUGINS {
        let sites = Panics::of(&fs::read(plugin(name)).unwrap());
        assert!(
            !sites.is_empty(),
            "{name}.wasm has no panic at all: nothing was looked at"
        );
        for site in sites.iter().filter(|site| !site.is_derived()) {
            match allowed.iter().find(|start| site.file.starts_with(*start)) {
                Some(start) => drop(used.insert(start)),
                None => drop(found.insert(format!("{}:{} in {name}.wasm", site.file, site.line))),
            }
        }
    }
    let found: Vec<String> = found.into_iter().collect();
    assert!(
        found.is_empty(),
        "places that could panic; mend them, or say in tests/tests/panics.txt why they never do:\n{}",
        found.join("\n")
    );
    let unused: Vec<&String> = allowed
        .iter()
        .filter(|start| !used.contains(start))
        .collect();
    assert!(
        unused.is_empty(),
        "no longer needed in tests/tests/panics.txt: {unused:?}"
    );
}

/// A place in the source that could panic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Site {
    /// `core/src/…` in Rust's own library, `p256/src/…` in a dependency, `crates/core/src/…` here.
    file: String,
    line: u32,
}

impl Site {
    /// Whether it is in our own source, in code that a derive of `Deserr` has written. That unwraps
    /// each field of the configuration after it has seen that all are there.
    fn is_derived(&self) -> bool {
        let ours = ["crates/", "policies/"]
            .iter()
            .any(|folder| self.file.starts_with(folder));
        let source = || fs::read_to_string(repository().join(&self.file)).ok();
        let line = |text: String| text.lines().nth(self.line as usize - 1).map(str::to_owned);
        ours && source().and_then(line).is_some_and(|line| {
            line.trim_start().starts_with("#[derive(") && line.contains("Deserr")
        })
    }
}

/// The search of one module.
struct Panics<'m> {
    module: &'m Module,
    /// The functions that a table holds, by their types.
    indirect: BTreeMap<TypeId, BTreeSet<FunctionId>>,
    /// What memory holds at first: segments by their addresses.
    memory: BTreeMap<u32, &'m [u8]>,
    reached: BTreeSet<FunctionId>,
    sites: BTreeSet<Site>,
}

impl Panics<'_> {
    /// The places that can be reached from any export.
    fn of(wasm: &[u8]) -> BTreeSet<Site> {
        let module = Module::from_buffer(wasm).expect("a module");
        let mut panics = Panics {
            module: &module,
            indirect: indirect(&module),
            memory: memory(&module),
            reached: BTreeSet::new(),
            sites: BTreeSet::new(),
        };
        let exports = module
            .exports
            .iter()
            .filter_map(|export| match export.item {
                ExportItem::Function(function) => Some(function),
                _ => None,
            });
        let mut open: Vec<FunctionId> = exports.chain(module.start).collect();
        while let Some(function) = open.pop() {
            if panics.reached.insert(function) {
                open.extend(panics.look_into(function));
            }
        }
        panics.sites
    }

    /// Notes the panics in a function, and gives the functions that it may call.
    fn look_into(&mut self, function: FunctionId) -> BTreeSet<FunctionId> {
        let FunctionKind::Local(local) = &self.module.funcs.get(function).kind else {
            return BTreeSet::new();
        };
        let mut body = Body::default();
        walrus::ir::dfs_in_order(&mut body, local, local.entry_block());
        let sites = body
            .constants
            .iter()
            .filter_map(|address| self.site(*address));
        let sites: Vec<Site> = sites.collect();
        self.sites.extend(sites);
        for callee in &body.types {
            body.calls
                .extend(self.indirect.get(callee).into_iter().flatten());
        }
        body.calls
    }

    /// The location at an address: a file's name (its address and length), a line and a column.
    fn site(&self, address: u32) -> Option<Site> {
        let [name, length, line, column] = [0, 4, 8, 12].map(|offset| self.word(address, offset));
        let (line, column) = (line?, column?);
        if !(1..100_000).contains(&line) || !(1..1_000).contains(&column) {
            return None;
        }
        let name = std::str::from_utf8(self.bytes(name?, length?)?).ok()?;
        name.ends_with(".rs").then(|| Site {
            file: shortened(name),
            line,
        })
    }

    fn word(&self, address: u32, offset: u32) -> Option<u32> {
        let bytes = self.bytes(address.checked_add(offset)?, 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn bytes(&self, address: u32, length: u32) -> Option<&[u8]> {
        let (start, segment) = self.memory.range(..=address).next_back()?;
        let from = (address - start) as usize;
        segment.get(from..from.checked_add(length as usize)?)
    }
}

/// A path without what differs from machine to machine and from version to version.
fn shortened(path: &str) -> String {
    if let Some((_, library)) = path.split_once("/library/") {
        return library.to_owned();
    }
    let package = match (
        path.split_once("/registry/src/"),
        path.strip_prefix("/rust/deps/"),
    ) {
        // Behind the registry's name.
        (Some((_, package)), _) => package
            .split_once('/')
            .map_or(package, |(_, package)| package),
        (None, Some(package)) => package,
        (None, None) => return path.to_owned(),
    };
    // Without the version behind the package's name.
    let (package, file) = package.split_once('/').unwrap_or((package, ""));
    let name = package.rsplit_once('-').map_or(package, |(name, _)| name);
    format!("{name}/{file}")
}

#[derive(Default)]
struct Body {
    constants: BTreeSet<u32>,
    calls: BTreeSet<FunctionId>,
    types: BTreeSet<TypeId>,
}

impl<'i> Visitor<'i> for Body {
    fn visit_const(&mut self, instruction: &Const) {
        if let Value::I32(value) = instruction.value {
            self.constants.insert(value as u32);
        }
    }

    fn visit_call(&mut self, instruction: &Call) {
        self.calls.insert(instruction.func);
    }

    fn visit_return_call(&mut self, instruction: &ReturnCall) {
        self.calls.insert(instruction.func);
    }

    fn visit_ref_func(&mut self, instruction: &RefFunc) {
        self.calls.insert(instruction.func);
    }

    fn visit_call_indirect(&mut self, instruction: &CallIndirect) {
        self.types.insert(instruction.ty);
    }

    fn visit_return_call_indirect(&mut self, instruction: &ReturnCallIndirect) {
        self.types.insert(instruction.ty);
    }
}

fn indirect(module: &Module) -> BTreeMap<TypeId, BTreeSet<FunctionId>> {
    let mut indirect: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for element in module.elements.iter() {
        let functions: Vec<FunctionId> = match &element.items {
            ElementItems::Functions(functions) => functions.clone(),
            ElementItems::Expressions(_, expressions) => expressions
                .iter()
                .filter_map(|expression| match expression {
                    ConstExpr::RefFunc(function) => Some(*function),
                    _ => None,
                })
                .collect(),
        };
        for function in functions {
            let ty = module.funcs.get(function).ty();
            indirect.entry(ty).or_default().insert(function);
        }
    }
    indirect
}

fn memory(module: &Module) -> BTreeMap<u32, &[u8]> {
    let segments = module.data.iter().filter_map(|data| match &data.kind {
        DataKind::Active {
            offset: ConstExpr::Value(Value::I32(start)),
            ..
        } => Some((*start as u32, data.value.as_slice())),
        _ => None,
    });
    segments.collect()
}

/// The search itself finds what it is for, directly and through a table, and nothing unreached.
#[test]
fn a_panic_is_found_by_its_location() {
    let text = r#"(module
        (memory (export "memory") 1)
        (data (i32.const 64) "/rustc/0123/library/core/src/a.rs")
        (data (i32.const 128) "/cargo/registry/src/index-1/big-int-0.5.2/src/b.rs")
        (data (i32.const 192) "crates/core/src/c.rs")
        (data (i32.const 256)
            "\40\00\00\00\21\00\00\00\07\00\00\00\05\00\00\00"
            "\80\00\00\00\32\00\00\00\08\00\00\00\05\00\00\00"
            "\c0\00\00\00\14\00\00\00\09\00\00\00\05\00\00\00")
        (table 1 1 funcref)
        (elem (i32.const 0) $in_table)
        (type $unit (func))
        (func $panic (param i32) unreachable)
        (func $in_table (call $panic (i32.const 272)))
        (func $unreached (call $panic (i32.const 288)))
        (func (export "proxy_on_request_headers")
            (call $panic (i32.const 256))
            (call_indirect (type $unit) (i32.const 0))))"#;
    let sites = Panics::of(&wat::parse_str(text).unwrap());
    let site = |file: &str, line| Site {
        file: file.to_owned(),
        line,
    };
    assert_eq!(
        sites.into_iter().collect::<Vec<_>>(),
        [site("big-int/src/b.rs", 8), site("core/src/a.rs", 7)]
    );
}
