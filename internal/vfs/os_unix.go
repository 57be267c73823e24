//go:build unix

package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func mapFile(f *os.File, size int) (*Mapping, error) {
	data, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	mapped.add(data)
	return &Mapping{data: data, advise: advise, unmap: func(b []byte) error {
		mapped.remove(b)
		return unix.Munmap(b)
	}}, nil
}

func advise(b []byte, a advice) {
	how := unix.MADV_WILLNEED
	if a == dontNeed {
		how = unix.MADV_DONTNEED
	}
	_ = unix.Madvise(b, how) // advice: refusing it changes nothing
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
