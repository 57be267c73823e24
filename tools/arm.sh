#!/bin/sh
# Runs the kernels' tests for arm64 under qemu's user emulation.
set -eu
qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64) || {
  apt-get install -y -qq qemu-user-static >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq qemu-user-static >/dev/null; }
  qemu=$(command -v qemu-aarch64-static)
}
GOARCH=arm64 go test -exec "$qemu" ./internal/kernel/... ./dtype
