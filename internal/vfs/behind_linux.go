package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeBehind has n bytes from off on written to the disk in the background.
func writeBehind(f *os.File, off int64, n int) {
	_ = unix.SyncFileRange(int(f.Fd()), off, int64(n), unix.SYNC_FILE_RANGE_WRITE)
}
