//! Where a supervisor stands, in the words of a service.

use handover::{
    Status,
    status::{LastUpgrade, Older, Socket, Standing, Step, Upgrade, Worker},
};

use super::{super::now, Supervisor};

impl Supervisor {
    pub(super) fn status(&self) -> Status {
        let now = now();
        let pid = |id: &u64| self.children.get(id).map_or(0, |child| child.pid);
        let mut status = Status::default();
        status.pid = std::process::id();
        status.generation = self.plan.serving().unwrap_or_default();
        status.age = now.saturating_sub(self.started);
        status.since = status.age;
        status.standing = match (self.plan.stopping(), self.plan.rollout()) {
            (Some(stop), _) => {
                status.since = now.saturating_sub(stop.since);
                status.remaining = stop.deadline.map(|deadline| deadline.saturating_sub(now));
                Standing::Draining
            }
            (None, Some(_)) => Standing::Upgrading,
            (None, None) if self.plan.is_complete() => Standing::Running,
            (None, None) => Standing::Starting,
        };
        for (id, process) in self.plan.processes() {
            if process.leaves() {
                let mut older = Older::default();
                (older.pid, older.generation) = (pid(&id), process.generation);
                status.older.push(older);
                continue;
            }
            let mut worker = Worker::default();
            worker.pid = pid(&id);
            worker.index = process.worker;
            worker.generation = process.generation;
            worker.age = now.saturating_sub(process.spawned);
            worker.standing = match process.serves() {
                true => Standing::Running,
                false => Standing::Starting,
            };
            worker.progress = self
                .children
                .get(&id)
                .and_then(|child| child.progress.clone());
            status.workers.push(worker);
        }
        status.upgrade = self.plan.rollout().map(|rollout| {
            let mut upgrade = Upgrade::default();
            let new = self
                .plan
                .processes()
                .filter(|(_, one)| one.generation == rollout.generation);
            upgrade.successor = new.last().map(|(id, _)| pid(&id));
            upgrade.age = now.saturating_sub(rollout.since);
            upgrade.step = Step::Starting;
            upgrade
        });
        status.last_upgrade = self.last.clone().map(|(error, at)| {
            let mut last = LastUpgrade::default();
            (last.error, last.ago) = (error, now.saturating_sub(at));
            last
        });
        let socket = |bound: &super::Bound| {
            let mut socket = Socket::default();
            socket.name = bound
                .socket
                .name()
                .unwrap_or(bound.socket.asked())
                .to_owned();
            socket.address = bound.socket.address().to_owned();
            socket.kind = bound.socket.kind();
            socket
        };
        status.listeners = self.sockets.iter().map(socket).collect();
        status
    }
}
