//! The servers.

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Speaks {
    /// The HTTP surface of the reference servers.
    Http,
    /// Their gRPC services.
    Grpc,
}

/// A server that a soak puts to the test.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// The program.
    pub program: &'static str,
    /// What it speaks.
    pub speaks: Speaks,
    /// Whether its idle connections move to the successor.
    pub moves: bool,
    /// Whether it stands on Handover at all. One that does not loses requests, and is only there to
    /// show that this is noticed.
    pub is_bare: bool,
}

impl Row {
    /// Whether its connections are closed in an upgrade, some time after their clients were told. Who is
    /// slower than that may ask just when it happens.
    #[must_use]
    pub fn announces(&self) -> bool {
        self.speaks == Speaks::Http && !self.moves && !self.is_bare
    }
}

const fn row(name: &'static str, program: &'static str, speaks: Speaks, moves: bool) -> Row {
    Row {
        name,
        program,
        speaks,
        moves,
        is_bare: false,
    }
}

/// All of them.
pub const ROWS: [Row; 8] = [
    row("axum", "ref-axum", Speaks::Http, true),
    row("axum-foreign", "ref-axum-foreign", Speaks::Http, false),
    row("warp", "ref-warp", Speaks::Http, true),
    row("actix-web", "ref-actix-web", Speaks::Http, true),
    row(
        "actix-foreign",
        "ref-actix-web-foreign",
        Speaks::Http,
        false,
    ),
    row("tonic", "ref-tonic", Speaks::Grpc, false),
    row("tonic-foreign", "ref-tonic-foreign", Speaks::Grpc, false),
    Row {
        is_bare: true,
        ..row("bare-axum", "ref-axum", Speaks::Http, false)
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_server_is_there() {
        let bins = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin");
        let mut there: Vec<String> = std::fs::read_dir(bins)
            .unwrap()
            .filter_map(|entry| Some(entry.unwrap().path().file_stem()?.to_str()?.to_owned()))
            .filter(|name| name.starts_with("ref-"))
            .collect();
        let mut rows: Vec<&str> = ROWS.iter().map(|row| row.program).collect();
        there.sort_unstable();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(there, rows);
    }
}
