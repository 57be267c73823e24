package eval

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"smelt/internal/vfs"
)

// maxData bounds what one data file holds, unpacked.
const maxData = 4 << 30

// readData reads a file, unpacked where its name ends in .gz.
func readData(fsys vfs.FS, path string) ([]byte, error) {
	data, err := vfs.ReadFile(fsys, path, maxData)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("data file %s does not exist", path)
		}
		return nil, err
	}
	if !strings.HasSuffix(path, ".gz") {
		return data, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	data, err = io.ReadAll(io.LimitReader(z, maxData+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(data) > maxData {
		return nil, fmt.Errorf("%s: more than %d bytes unpacked", path, int64(maxData))
	}
	return data, nil
}

// parseIDX returns shape and elements of an IDX file of unsigned bytes.
func parseIDX(path string, data []byte) (shape []int, elems []byte, err error) {
	if len(data) < 4 || data[0] != 0 || data[1] != 0 {
		return nil, nil, fmt.Errorf("%s: is no IDX file: it does not begin with two zero bytes", path)
	}
	if data[2] != 8 {
		return nil, nil, fmt.Errorf("%s: IDX elements of type 0x%02x, want 0x08 (unsigned bytes)", path, data[2])
	}
	dims := int(data[3])
	if dims < 1 || dims > 4 || len(data) < 4+4*dims {
		return nil, nil, fmt.Errorf("%s: IDX file of %d dimensions, want 1 to 4", path, dims)
	}
	total := int64(1)
	for i := range dims {
		d := int64(binary.BigEndian.Uint32(data[4+4*i:]))
		shape = append(shape, int(d))
		if d > 1<<30 || total*d > maxData {
			return nil, nil, fmt.Errorf("%s: IDX header of shape %v is larger than any file", path, shape)
		}
		total *= d
	}
	elems = data[4+4*dims:]
	if int64(len(elems)) != total {
		return nil, nil, fmt.Errorf("%s: %d bytes of elements, shape %v wants %d", path, len(elems), shape, total)
	}
	return shape, elems, nil
}
