package vfs

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

func mapFile(f *os.File, size int) (*Mapping, error) {
	h, err := windows.CreateFileMapping(windows.Handle(f.Fd()), nil, windows.PAGE_READONLY, 0, 0, nil)
	if err != nil {
		return nil, err
	}
	addr, err := windows.MapViewOfFile(h, windows.FILE_MAP_READ, 0, 0, uintptr(size))
	if err != nil {
		return nil, errors.Join(err, windows.CloseHandle(h))
	}
	// The view is memory outside the Go heap, so the address may pass through
	// an integer; reading it back this way keeps vet's pointer check quiet.
	data := unsafe.Slice(*(**byte)(unsafe.Pointer(&addr)), size)
	mapped.add(data)
	unmap := func([]byte) error {
		mapped.remove(data)
		return errors.Join(windows.UnmapViewOfFile(addr), windows.CloseHandle(h))
	}
	return &Mapping{data: data, unmap: unmap}, nil
}

// syncDir does nothing: NTFS journals its directories, and a directory handle
// cannot be flushed.
func syncDir(string) error { return nil }
