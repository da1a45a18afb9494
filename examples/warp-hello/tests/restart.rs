//! The example is stopped and restarted.

use handover_tests::hello::restarts_on_hup_and_stops_on_term;

#[tokio::test]
async fn it_restarts_on_hup_and_stops_on_term() -> anyhow::Result<()> {
    restarts_on_hup_and_stops_on_term(env!("CARGO_BIN_EXE_warp-hello")).await
}
