//! Choosing a plugin by its name.

use tollgate_core::plugin::Plugin;

/// What is to be done with a plugin that is known only by its name.
pub trait Visitor {
    /// What comes of it.
    type Output;

    /// Does it.
    fn visit<P: Plugin>(self) -> Self::Output;
}

macro_rules! plugins {
    ($($plugin:ident),+ $(,)?) => {
        /// The names of all plugins' files.
        pub const FILES: &[&str] = &[$(crate::$plugin::FILE),+];

        /// Does something with the plugin of a file; nothing if there is none of that name.
        pub fn visit<V: Visitor>(file: &str, visitor: V) -> Option<V::Output> {
            $(
                if file == crate::$plugin::FILE {
                    return Some(visitor.visit::<crate::$plugin>());
                }
            )+
            None
        }
    };
}

plugins!(
    Tollgate,
    RequestId,
    RateLimit,
    JwtAuthz,
    UsagePlan,
    Sunset,
    ProblemDetails
);

#[cfg(test)]
mod tests {
    use super::*;

    struct File;

    impl Visitor for File {
        type Output = &'static str;

        fn visit<P: Plugin>(self) -> &'static str {
            P::FILE
        }
    }

    #[test]
    fn each_plugin_is_found_by_its_file() {
        for file in FILES {
            assert_eq!(visit(file, File), Some(*file));
        }
        assert_eq!(visit("tollgate", File), None);
    }
}
