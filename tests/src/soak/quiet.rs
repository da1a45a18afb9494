//! What must hold when nothing happens.

use std::{fs, sync::atomic::Ordering::Relaxed};

use anyhow::{Context as _, ensure};

use super::{
    row::Speaks,
    service::{Service, settles},
};
use crate::{
    harness::{Belongings, proc},
    load::get,
};

impl Service {
    /// Waits until the generation that is to serve is alone, and looks at it.
    pub(super) async fn is_quiet(&self) -> anyhow::Result<()> {
        let (server, serving) = (self.server(), self.serving());
        let pid = serving.pid();
        let alone = settles("it to be the only process", || {
            // Those that came to us when their predecessor died are ours to reap.
            for known in server.generations() {
                let _ = known.process.try_exit();
            }
            let all = server.processes().ok()?;
            (all.len() == 1 && all[0].pid == pid).then_some(())
        });
        alone
            .await
            .with_context(|| format!("{pid} is to serve; there are {:?}", server.processes()))?;
        settles("its children to be reaped", || {
            proc::zombies(pid).ok()?.is_empty().then_some(())
        })
        .await?;
        if !self.row.is_bare {
            let named = settles("the pid file to name it", || {
                let text = fs::read_to_string(self.pid_file()).ok()?;
                (text == format!("{pid}\n")).then_some(())
            });
            named.await.with_context(|| {
                format!("{pid} serves; there is {:?}", fs::read(self.pid_file()))
            })?;
        }
        if self.row.speaks == Speaks::Http {
            for (name, _) in &serving.sockets {
                let target = serving.target(name)?;
                let answer = get(&target, "/").await;
                let head = answer.with_context(|| format!("ask {target}"))?.head;
                ensure!(head.pid == Some(pid), "{:?} answers for {pid}", head.pid);
                ensure!(!head.close || self.row.is_bare, "{pid} drains");
            }
        }
        Ok(())
    }

    /// No descriptor, beside those of clients, more than the first that had a predecessor. What is
    /// closed after an upgrade takes its time.
    pub(super) async fn has_no_more(&self, clients: u64) -> anyhow::Result<()> {
        let pid = self.serving().pid();
        if self.row.is_bare || self.serving().generation == 0 {
            return Ok(());
        }
        let first = self.open_at_rest.load(Relaxed);
        if first == 0 {
            let has = Belongings::of(pid)?;
            self.open_at_rest.store(has.other_than_sockets(), Relaxed);
            return Ok(());
        }
        let most = 4 * clients as usize + 8;
        let same = settles("no descriptor more than at first", || {
            let has = Belongings::of(pid).ok()?;
            let sockets = has.open() - has.other_than_sockets();
            (has.other_than_sockets() <= first && sockets <= most).then_some(())
        });
        same.await.with_context(|| {
            let has = Belongings::of(pid).map(|has| has.descriptors);
            format!("at first {first} that are no sockets; {pid} has {has:?}")
        })
    }
}
