//! A file that says which processes there are: `generation:pid`, a line each, as Server::Starter
//! writes it.

use std::{
    fs::{self, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// It, and what is in it.
#[derive(Debug)]
pub(crate) struct StatusFile {
    path: PathBuf,
    text: Option<String>,
}

impl StatusFile {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            text: None,
        }
    }

    /// Writes it anew if anything has changed: complete at every moment.
    pub(crate) fn write(&mut self, processes: impl Iterator<Item = (u64, u32)>) -> io::Result<()> {
        let text: String = processes
            .map(|(generation, pid)| format!("{generation}:{pid}\n"))
            .collect();
        if self.text.as_ref() == Some(&text) {
            return Ok(());
        }
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let mut file = tempfile::NamedTempFile::new_in(dir.unwrap_or(Path::new(".")))?;
        file.as_file()
            .set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())?;
        file.persist(&self.path)?;
        self.text = Some(text);
        Ok(())
    }

    /// Removes it, if it is what we wrote.
    pub(crate) fn remove(&self) {
        if self.text.is_some() && fs::read_to_string(&self.path).ok() == self.text {
            let _ = fs::remove_file(&self.path);
        }
    }
}
