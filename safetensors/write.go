package safetensors

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"smelt/internal/ojson"
	"smelt/internal/vfs"
	"smelt/tensor"
)

// align is what the header's length is padded to, so that data is aligned for
// every element type.
const align = 8

// EncodeHeader returns the bytes that stand before the data: the length and
// the JSON, padded with spaces to a multiple of 8 and to at least reserve
// bytes in all. A writer that does not know all tensors in advance can leave
// HeaderBound bytes free, stream the data and put the header in place at the
// end. Tensors are written in offset order, metadata first and sorted by key:
// the same input gives the same bytes. What Open would refuse is refused here.
func EncodeHeader(infos []Info, metadata map[string]string, reserve int) ([]byte, error) {
	sorted := slices.Clone(infos)
	slices.SortStableFunc(sorted, func(a, b Info) int {
		return cmp.Or(cmp.Compare(a.Begin, b.Begin), cmp.Compare(a.End, b.End))
	})
	if err := checkNames(sorted); err != nil {
		return nil, err
	}
	var end int64
	if len(sorted) > 0 {
		end = sorted[len(sorted)-1].End
	}
	if err := validate(sorted, end); err != nil {
		return nil, fmt.Errorf("safetensors: cannot write: %w", err)
	}
	b := appendHeader(make([]byte, 8, max(reserve, 8)), sorted, metadata)
	for len(b)%align != 0 || len(b) < reserve {
		b = append(b, ' ')
	}
	if len(b)-8 > MaxHeader {
		return nil, fmt.Errorf("safetensors: cannot write a header of %d bytes, more than %d", len(b)-8, MaxHeader)
	}
	binary.LittleEndian.PutUint64(b, uint64(len(b)-8))
	return b, nil
}

// HeaderBound returns how many bytes EncodeHeader takes at most for these
// tensors, whatever their offsets; names, types and shapes must be set.
func HeaderBound(infos []Info, metadata map[string]string) int {
	wide := slices.Clone(infos)
	for i := range wide {
		wide[i].Begin, wide[i].End = 1<<62, 1<<62
	}
	n := 8 + len(appendHeader(nil, wide, metadata))
	return (n + align - 1) / align * align
}

func appendHeader(b []byte, infos []Info, metadata map[string]string) []byte {
	b = append(b, '{')
	if metadata != nil {
		b = append(b, `"`+metadataKey+`":{`...)
		for i, k := range slices.Sorted(maps.Keys(metadata)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = ojson.AppendString(b, k)
			b = append(b, ':')
			b = ojson.AppendString(b, metadata[k])
		}
		b = append(b, '}')
		if len(infos) > 0 {
			b = append(b, ',')
		}
	}
	for i, t := range infos {
		if i > 0 {
			b = append(b, ',')
		}
		b = ojson.AppendString(b, t.Name)
		b = fmt.Appendf(b, `:{"dtype":"%v","shape":%s,"data_offsets":[%d,%d]}`, t.DType, list(t.Shape), t.Begin, t.End)
	}
	return append(b, '}')
}

func checkNames(infos []Info) error {
	if len(infos) > MaxTensors {
		return fmt.Errorf("safetensors: cannot write %d tensors, more than %d", len(infos), MaxTensors)
	}
	seen := make(map[string]struct{}, len(infos))
	for _, t := range infos {
		if t.Name == "" || t.Name == metadataKey || len(t.Name) > MaxName || !utf8.ValidString(t.Name) {
			return fmt.Errorf("safetensors: cannot write a tensor called %.200q", t.Name)
		}
		if _, dup := seen[t.Name]; dup {
			return fmt.Errorf("safetensors: cannot write two tensors called %.200q", t.Name)
		}
		seen[t.Name] = struct{}{}
	}
	return nil
}

// Named is a tensor with its name.
type Named struct {
	Name string
	tensor.Tensor
}

// Layout gives the tensors their offsets in the order in which they stand.
func Layout(tensors []Named) ([]Info, error) {
	infos := make([]Info, len(tensors))
	var off int64
	for i, t := range tensors {
		if err := t.Validate(); err != nil {
			return nil, fmt.Errorf("safetensors: cannot write tensor %.200q: %w", t.Name, err)
		}
		infos[i] = Info{Name: t.Name, DType: t.DType, Shape: t.Shape, Begin: off, End: off + int64(len(t.Data))}
		off = infos[i].End
	}
	return infos, nil
}

// Write creates a file that holds the tensors in the order in which they are
// given, and syncs it. Sort them by falling element size, as the reference
// writer does, where files mix types and a reader wants aligned data. It is
// not atomic: see vfs.Commit.
func Write(fsys vfs.FS, path string, tensors []Named, metadata map[string]string) (err error) {
	infos, err := Layout(tensors)
	if err != nil {
		return err
	}
	head, err := EncodeHeader(infos, metadata, 0)
	if err != nil {
		return err
	}
	f, err := fsys.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(head); err != nil {
		return err
	}
	for _, t := range tensors {
		if _, err := f.Write(t.Data); err != nil {
			return err
		}
	}
	return f.Sync()
}
