//! What the figures show: of which tables, which rows.

/// A picture of the book.
pub(crate) struct Figure {
    /// Of its file.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) panels: &'static [Panel],
}

/// Bars from one table.
pub(crate) struct Panel {
    /// The title of the table.
    pub(crate) table: &'static str,
    pub(crate) title: &'static str,
    /// Whether the bars are what each row is to the first of these, or what it takes.
    pub(crate) ratio: bool,
    /// What it takes it in.
    pub(crate) unit: &'static str,
    /// The rows, and what they are called here.
    pub(crate) rows: &'static [(&'static str, &'static str)],
}

/// The servers of one version of HTTP.
macro_rules! servers {
    ($http:literal) => {
        &[
            (concat!("hyper/", $http), "bare hyper"),
            (
                concat!("hyper/", $http, " + hyper-util GracefulShutdown"),
                "hyper, hyper-util's GracefulShutdown",
            ),
            (
                concat!("hyper/", $http, " + TaskTracker + CancellationToken"),
                "hyper, TaskTracker and token",
            ),
            (
                concat!("handover-hyper/", $http, "_only.without_extensions"),
                "handover-hyper, without extensions",
            ),
            (concat!("handover-hyper/", $http, "_only"), "handover-hyper"),
            ("axum/serve", "axum::serve"),
            (
                "axum/serve.with_graceful_shutdown",
                "axum::serve, graceful shutdown",
            ),
            ("axum-server + Handle", "axum-server"),
            (
                "handover-axum/serve.without_extensions",
                "handover-axum, without extensions",
            ),
            ("handover-axum/serve", "handover-axum"),
        ]
    };
}

const HTTP1: &[(&str, &str)] = servers!("http1");
const HTTP2: &[(&str, &str)] = servers!("http2");

pub(crate) const FIGURES: &[Figure] = &[
    Figure {
        name: "requests",
        title: "Instructions of a request, to those of bare hyper",
        panels: &[
            request("an HTTP/1 request on an open connection", HTTP1),
            request("an HTTP/1 connection with one request", HTTP1),
            request("an HTTP/2 request on an open connection", HTTP2),
            request(
                "a unary call of gRPC on an open connection",
                &[
                    ("hyper/http2 + tonic Routes", "tonic's routes on bare hyper"),
                    ("tonic/serve_with_incoming", "tonic, serve"),
                    (
                        "tonic/serve_with_incoming_shutdown",
                        "tonic, serve_with_shutdown",
                    ),
                    (
                        "handover-tonic/serve.without_extensions",
                        "handover-tonic, without extensions",
                    ),
                    ("handover-tonic/serve", "handover-tonic"),
                ],
            ),
        ],
    },
    Figure {
        name: "tracking",
        title: "Nanoseconds of a thread, where two do it at once",
        panels: &[
            times(
                "guard, threads: 2",
                "taking what holds a drain, and dropping it",
                &[
                    ("floor/Arc clone", "a clone of an Arc"),
                    ("handover/guard", "a guard"),
                    ("tokio-graceful/ShutdownGuard clone", "tokio-graceful"),
                    ("swansong/guard", "swansong"),
                    ("tokio-util/TaskTracker::token", "TaskTracker"),
                    ("hyper-util/GracefulShutdown::watcher", "hyper-util"),
                    ("drain/Watch clone", "drain"),
                ],
            ),
            times(
                "connection, threads: 2",
                "a connection is tracked, waits once, and ends",
                &[
                    ("handover/Connection::hold", "held, with what it is"),
                    (
                        "tokio-util/TaskTracker + CancellationToken",
                        "TaskTracker and CancellationToken",
                    ),
                    ("tokio-graceful/ShutdownGuard", "tokio-graceful"),
                    ("drain/Watch", "drain"),
                    ("swansong/guard + shutting_down", "swansong"),
                ],
            ),
            times(
                "layer, threads: 2",
                "a service that answers at once",
                &[
                    ("tower/a bare call", "bare"),
                    (
                        "handover/GracefulLayer::without_token",
                        "GracefulLayer, without token",
                    ),
                    ("handover/GracefulLayer", "GracefulLayer"),
                    ("tower-http/InFlightRequests", "tower-http InFlightRequests"),
                ],
            ),
        ],
    },
    Figure {
        name: "memory",
        title: "Bytes of an idle HTTP/1 connection",
        panels: &[Panel {
            table: "an idle HTTP/1 connection",
            title: "after its first request, without the kernel's",
            ratio: false,
            unit: " B",
            rows: HTTP1,
        }],
    },
    Figure {
        name: "drain",
        title: "How long a drain takes, to the first row",
        panels: &[
            broadcast("broadcast to 1000", "1,000 parked tasks are told, and end"),
            broadcast("broadcast to 100000", "100,000 parked tasks"),
            broadcast("broadcast to 1000000", "1,000,000 parked tasks"),
            drain(
                "drain of 1000 idle connections",
                "1,000 idle HTTP/1 connections are closed",
            ),
            drain(
                "drain of 10000 idle connections",
                "10,000 idle HTTP/1 connections are closed",
            ),
        ],
    },
    Figure {
        name: "upgrade",
        title: "An upgrade: milliseconds from the signal to the first answer",
        panels: &[
            upgrade("upgrade with 1 sockets: signal to first answer", "1 socket"),
            upgrade(
                "upgrade with 100 sockets: signal to first answer",
                "100 sockets",
            ),
            upgrade(
                "upgrade with 4000 sockets: signal to first answer",
                "4,000 sockets",
            ),
        ],
    },
];

const fn request(table: &'static str, rows: &'static [(&'static str, &'static str)]) -> Panel {
    Panel {
        table,
        title: table,
        ratio: true,
        unit: "",
        rows,
    }
}

const fn times(
    table: &'static str,
    title: &'static str,
    rows: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel {
        table,
        title,
        ratio: false,
        unit: " ns",
        rows,
    }
}

const fn broadcast(table: &'static str, title: &'static str) -> Panel {
    Panel {
        table,
        title,
        ratio: true,
        unit: "",
        rows: &[
            ("floor/waker list", "a list of wakers"),
            ("swansong/guard + shutting_down", "swansong"),
            (
                "tokio-util/TaskTracker + CancellationToken",
                "TaskTracker and CancellationToken",
            ),
            ("handover/Holder::poll_phase", "holders"),
            ("drain/Watch", "drain"),
        ],
    }
}

const fn drain(table: &'static str, title: &'static str) -> Panel {
    Panel {
        table,
        title,
        ratio: true,
        unit: "",
        rows: &[
            (
                "hyper/http1 + TaskTracker + CancellationToken",
                "hyper, TaskTracker and token",
            ),
            (
                "hyper/http1 + hyper-util GracefulShutdown",
                "hyper, hyper-util's GracefulShutdown",
            ),
            (
                "axum/serve.with_graceful_shutdown",
                "axum::serve, graceful shutdown",
            ),
            ("handover-hyper/serve", "handover-hyper"),
            ("handover-axum/serve", "handover-axum"),
        ],
    }
}

const fn upgrade(table: &'static str, title: &'static str) -> Panel {
    Panel {
        table,
        title,
        ratio: false,
        unit: " ms",
        rows: &[
            (
                "floor/a process that does nothing",
                "to start a process that does nothing",
            ),
            ("handover", "handover"),
            ("ecdysis", "ecdysis"),
        ],
    }
}
