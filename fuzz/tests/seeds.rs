//! Every seed, and every input that once broke a check.

use std::fs;
use std::path::Path;

#[test]
fn every_seed_passes_its_check() {
    for (name, check) in tollgate_fuzz::CHECKS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("seeds")
            .join(name);
        let seeds = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut count = 0;
        for seed in seeds {
            check(&fs::read(seed.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "{name} has no seed");
        check(&[]);
    }
}
