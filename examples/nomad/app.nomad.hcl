# Three instances of a service that lose no request when a new version of the job is rolled out.
#
#   nomad job run examples/nomad/app.nomad.hcl
#
# The program is `axum-observed`, which drains by `Policy::kubernetes()`: what that needs of an orchestrator
# is the same here. The numbers are derived from it in the book's chapter on balancers.
# ANCHOR: job
job "app" {
  group "app" {
    count = 3

    # One after another, and the next only when the one before has been well for some time.
    update {
      max_parallel     = 1
      health_check     = "checks"
      min_healthy_time = "5s"
    }

    network {
      port "http" {}
      port "admin" {}
    }

    # No delay between the end of the registration and the signal: the lame duck is that, and clients
    # are told meanwhile.
    shutdown_delay = "0s"

    service {
      name = "app"
      port = "http"

      check {
        type     = "http"
        port     = "admin"
        path     = "/readyz"
        interval = "2s"
        timeout  = "1s"
      }
    }

    task "app" {
      driver = "exec"

      # The deadline (25), and five to end in. The client's max_kill_timeout is 30 s if nobody says
      # otherwise, and caps this.
      kill_timeout = "30s"

      config {
        command = "local/app"
        args    = ["0.0.0.0:${NOMAD_PORT_http}", "0.0.0.0:${NOMAD_PORT_admin}"]
      }
    }
  }
}
# ANCHOR_END: job
