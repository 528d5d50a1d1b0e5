//! Tables in pages that people write.

use std::path::Path;

/// Puts text between `<!-- NAME begin -->` and `<!-- NAME end -->`, in place of what was there.
pub fn replace(page: &Path, name: &str, text: &str) -> Result<(), String> {
    let before =
        std::fs::read_to_string(page).map_err(|error| format!("{}: {error}", page.display()))?;
    let after = between(&before, name, text)
        .ok_or_else(|| format!("{} has no markers for {name}", page.display()))?;
    std::fs::write(page, after).map_err(|error| format!("{}: {error}", page.display()))
}

fn between(page: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- {name} begin -->"),
        format!("<!-- {name} end -->"),
    );
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!(
        "{before}{begin}\n\n{}\n\n{end}{after}",
        text.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let page = "a\n<!-- x begin -->\nold\n<!-- x end -->\nb\n";
        let expected = "a\n<!-- x begin -->\n\nnew\n\n<!-- x end -->\nb\n";
        assert_eq!(between(page, "x", "new\n").as_deref(), Some(expected));
        assert_eq!(between(expected, "x", "new").as_deref(), Some(expected));
        assert_eq!(between(page, "y", "new"), None);
    }
}
