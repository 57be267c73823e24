package eval

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"smelt/internal/ojson"
	"smelt/internal/vfs"
)

// rows are the examples of data files, one object each.
type rows struct {
	list       []ojson.Value
	files      []string
	ends       []int // ends[i] is where the rows of files[i] end
	key        string
	classNames map[string][]string // of fields that are class labels, as the file says
	lines      bool                // a row is a line
}

// readRows reads files one after the other; limit, where not 0, bounds the
// rows.
func readRows(fsys vfs.FS, paths []string, limit int) (*rows, error) {
	r := &rows{classNames: map[string][]string{}}
	hash := sha256.New()
	for _, path := range paths {
		if limit > 0 && len(r.list) >= limit {
			break
		}
		data, err := readData(fsys, path)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(data)
		hash.Write(sum[:])
		before := len(r.list)
		switch name := strings.TrimSuffix(strings.ToLower(path), ".gz"); {
		case strings.HasSuffix(name, ".parquet"):
			err = r.parquet(data, limit)
		case strings.HasSuffix(name, ".jsonl"):
			r.lines = true
			err = r.jsonl(data, limit)
		case strings.HasSuffix(name, ".csv"):
			err = r.csv(data, ',', limit)
		case strings.HasSuffix(name, ".tsv"):
			err = r.csv(data, '\t', limit)
		default:
			err = fmt.Errorf("a text file has no fields: want parquet, JSONL or CSV")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if len(r.list) == before {
			return nil, fmt.Errorf("%s: the data is empty: no rows", path)
		}
		r.files = append(r.files, path)
		r.ends = append(r.ends, len(r.list))
	}
	r.key = hex.EncodeToString(hash.Sum(nil))
	return r, nil
}

// file returns the file of row i.
func (r *rows) file(i int) string {
	for k, end := range r.ends {
		if i < end {
			return r.files[k]
		}
	}
	return ""
}

// place says where row i is.
func (r *rows) place(i int) string {
	start := 0
	for k, end := range r.ends {
		if i < end {
			if r.lines {
				return fmt.Sprintf("%s:%d", r.files[k], i-start+1)
			}
			return fmt.Sprintf("%s: row %d", r.files[k], i-start+1)
		}
		start = end
	}
	return fmt.Sprintf("row %d", i+1)
}

func (r *rows) jsonl(data []byte, limit int) error {
	line := 0
	for len(data) > 0 && (limit == 0 || len(r.list) < limit) {
		line++
		text, rest, _ := bytes.Cut(data, []byte{'\n'})
		data = rest
		if text = bytes.TrimSpace(text); len(text) == 0 {
			if len(bytes.TrimSpace(rest)) == 0 {
				break
			}
			return fmt.Errorf("line %d is empty", line)
		}
		v, err := ojson.Parse(text)
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		if v.Kind != ojson.Object {
			return fmt.Errorf("line %d: want an object, got %s", line, v.Kind.A())
		}
		r.list = append(r.list, v)
	}
	return nil
}

func (r *rows) csv(data []byte, comma rune, limit int) error {
	c := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))))
	c.Comma = comma
	c.ReuseRecord = true
	head, err := c.Read()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	names := make([]string, len(head))
	copy(names, head)
	for limit == 0 || len(r.list) < limit {
		record, err := c.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		members := make([]ojson.Member, len(record))
		for i, v := range record {
			members[i] = ojson.Member{Name: names[i], Value: ojson.NewString(v)}
		}
		r.list = append(r.list, ojson.NewObject(members...))
	}
	return nil
}

// fieldNames lists the fields of a row.
func fieldNames(r ojson.Value) string {
	list := make([]string, len(r.Members))
	for i, m := range r.Members {
		list[i] = m.Name
	}
	return strings.Join(list, ", ")
}

// whole reads a whole number, also one that is written as a string, as all are
// in CSV.
func whole(v ojson.Value) (int, bool) {
	if v.Kind == ojson.String {
		n, err := strconv.Atoi(v.Text)
		return n, err == nil
	}
	n, ok := v.Int()
	return int(n), ok
}

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
