//! The code that is generated from `proto/hello.proto`.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::exhaustive_structs,
    clippy::exhaustive_enums
)]

tonic::include_proto!("hello.v1");
