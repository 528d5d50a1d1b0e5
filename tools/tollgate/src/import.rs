use std::io::Write;
pub fn run(_: &crate::args::ImportCommand, _: &mut dyn Write) -> anyhow::Result<crate::Outcome> {
    Ok(crate::Outcome::Good)
}
