//! Under whom the program runs.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist, setgid, setgroups, setuid};

/// Who it is, as the system knows it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    uid: u32,
    gid: u32,
    /// All groups, the supplementary ones included.
    groups: Vec<u32>,
    /// `HOME`, `USER`, `LOGNAME` and `SHELL`.
    pub(crate) variables: Vec<(String, String)>,
}

impl Identity {
    /// Looks up `USER[:GROUP]`, each a name or a number.
    ///
    /// # Errors
    ///
    /// In words, if there is no such user or group.
    pub(crate) fn look_up(text: &str) -> Result<Self, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let failed = |err: nix::Error| format!("cannot look up user {user:?}: {err}");
        let by_name = User::from_name(user).map_err(failed)?;
        let number = user.parse().ok();
        let found = match (by_name, number) {
            (Some(found), _) => Some(found),
            (None, Some(uid)) => User::from_uid(Uid::from_raw(uid)).map_err(failed)?,
            (None, None) => return Err(format!("there is no user {user:?}")),
        };
        let group = group.map(group_id).transpose()?;
        let gid = group.or(found.as_ref().map(|found| found.gid.as_raw()));
        let Some(gid) = gid else {
            return Err(format!(
                "user {user} has no name, and so no group; write {user}:GROUP"
            ));
        };
        let Some(found) = found else {
            // A number without a name has no groups but the one that was named.
            return Ok(Self {
                uid: number.unwrap_or_default(),
                gid,
                groups: vec![gid],
                variables: Vec::new(),
            });
        };
        let name = CString::new(found.name.as_bytes()).map_err(|err| err.to_string())?;
        let groups = getgrouplist(&name, Gid::from_raw(gid)).map_err(failed)?;
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        Ok(Self {
            uid: found.uid.as_raw(),
            gid,
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            variables: vec![
                ("HOME".to_owned(), text(&found.dir)),
                ("USER".to_owned(), found.name.clone()),
                ("LOGNAME".to_owned(), found.name),
                ("SHELL".to_owned(), text(&found.shell)),
            ],
        })
    }

    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// As text, for the process that is to become it.
    pub(crate) fn to_word(&self) -> String {
        let groups: Vec<_> = self.groups.iter().map(u32::to_string).collect();
        format!("{}:{}:{}", self.uid, self.gid, groups.join(","))
    }
}

/// Becomes what [`Identity::to_word`] says, for good.
///
/// # Errors
///
/// In words, if it may not, or could come back.
pub(crate) fn become_it(word: &str) -> Result<(), String> {
    let bad = || format!("{word:?} is no user, group and groups");
    let mut parts = word.split(':');
    let mut number = || parts.next()?.parse::<u32>().ok();
    let (uid, gid) = (number().ok_or_else(bad)?, number().ok_or_else(bad)?);
    let groups = parts.next().ok_or_else(bad)?.split(',');
    let groups: Result<Vec<_>, _> = groups
        .map(|group| group.parse().map(Gid::from_raw))
        .collect();
    let groups = groups.map_err(|_| bad())?;
    // In this order: without the user's rights the groups could not be changed any more.
    let failed = |what: &str| {
        let what = what.to_owned();
        move |err: nix::Error| {
            format!("cannot set {what}: {err}; only root may run a program as another user")
        }
    };
    setgroups(&groups).map_err(failed("the groups"))?;
    setgid(Gid::from_raw(gid)).map_err(failed("the group"))?;
    setuid(Uid::from_raw(uid)).map_err(failed("the user"))?;
    if uid != 0 && setuid(Uid::from_raw(0)).is_ok() {
        return Err("root's rights could be had again; they were not dropped".to_owned());
    }
    Ok(())
}

fn group_id(text: &str) -> Result<u32, String> {
    let failed = |err: nix::Error| format!("cannot look up group {text:?}: {err}");
    match (Group::from_name(text).map_err(failed)?, text.parse()) {
        (Some(group), _) => Ok(group.gid.as_raw()),
        (None, Ok(gid)) => Ok(gid),
        (None, Err(_)) => Err(format!("there is no group {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names_and_numbers() {
        let root = Identity::look_up("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.variables.contains(&("USER".into(), "root".into())));
        assert_eq!(Identity::look_up("0").unwrap(), root);
        let nameless = Identity::look_up("4000000:12").unwrap();
        assert_eq!(nameless.to_word(), "4000000:12:12");
        for text in ["no-such-user", "4000000", "root:no-such-group", ""] {
            assert!(Identity::look_up(text).is_err(), "{text}");
        }
    }
}
