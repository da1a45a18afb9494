//! The environment of a program: ours without what was meant for us, a directory of variables, and
//! what the [dialects](super::dialects) add.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

use super::dialects::is_for_another;

pub(crate) type Environment = BTreeMap<OsString, OsString>;

/// Ours, as it was when we were started.
pub(crate) fn ours() -> Environment {
    let for_another = |name: &OsStr| name.to_str().is_some_and(is_for_another);
    std::env::vars_os()
        .filter(|(name, _)| !for_another(name))
        .collect()
}

/// Reads a directory in which each file is a variable, as `envdir` does: its first line is the
/// value, without blanks at its end and with zero bytes for line ends; an empty file unsets it.
///
/// # Errors
///
/// With the file that cannot be read, in words.
pub(crate) fn read(dir: &Path, into: &mut Environment) -> Result<(), String> {
    let failed = |path: &Path, err: io::Error| format!("cannot read {}: {err}", path.display());
    for entry in fs::read_dir(dir).map_err(|err| failed(dir, err))? {
        let entry = entry.map_err(|err| failed(dir, err))?;
        let (name, path) = (entry.file_name(), entry.path());
        let hidden = name.as_bytes().starts_with(b".");
        if hidden || name.as_bytes().contains(&b'=') || path.is_dir() {
            continue;
        }
        let bytes = fs::read(&path).map_err(|err| failed(&path, err))?;
        if bytes.is_empty() {
            into.remove(&name);
            continue;
        }
        let line = bytes
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        let end = line
            .iter()
            .rposition(|byte| !matches!(byte, b' ' | b'\t' | b'\r'));
        let mut value = line[..end.map_or(0, |end| end + 1)].to_vec();
        value
            .iter_mut()
            .filter(|byte| **byte == 0)
            .for_each(|byte| *byte = b'\n');
        into.insert(name, OsString::from_vec(value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_variables() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("COLOUR", "red \t\nblue\n");
        write("LINES", "a\0b");
        write("GONE", "");
        write("BLANK", "\n");
        write(".hidden", "x");
        write("A=B", "x");
        fs::create_dir(dir.path().join("sub")).unwrap();
        let mut all =
            Environment::from([("GONE".into(), "here".into()), ("KEPT".into(), "1".into())]);
        read(dir.path(), &mut all).unwrap();
        let expected = [
            ("BLANK", ""),
            ("COLOUR", "red"),
            ("KEPT", "1"),
            ("LINES", "a\nb"),
        ];
        let expected = expected.map(|(name, value)| (name.into(), value.into()));
        assert_eq!(all, Environment::from(expected));
        let err = read(&dir.path().join("none"), &mut all).unwrap_err();
        assert!(err.contains("none"), "{err}");
    }
}
