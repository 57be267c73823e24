package eval

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/parquet-go/parquet-go"

	"smelt/internal/ojson"
)

// leaf is a column of a parquet file and where its values go in a row.
type leaf struct {
	path []string // of the objects around it and the field itself
	list bool     // the values of a row are a list
	def  int      // the definition level of a value that is there
}

// parquet reads the rows of a parquet file. A group is an object, a list a
// list; a list of objects becomes an object of lists, as in datasets. Lists
// of lists are left out.
func (r *rows) parquet(data []byte, limit int) (err error) {
	defer func() {
		if p := recover(); p != nil { // of the library, at a broken file
			err = fmt.Errorf("broken parquet file: %v", p)
		}
	}()
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return err
	}
	leaves := leavesOf(f.Schema())
	if text, ok := f.Lookup("huggingface"); ok {
		r.readFeatures(text)
	}
	buffer := make([]parquet.Row, 64)
	for _, group := range f.RowGroups() {
		if err := r.rowGroup(group, leaves, buffer, limit); err != nil {
			return err
		}
	}
	return nil
}

func (r *rows) rowGroup(group parquet.RowGroup, leaves []leaf, buffer []parquet.Row, limit int) error {
	in := group.Rows()
	defer in.Close()
	for limit == 0 || len(r.list) < limit {
		n, err := in.ReadRows(buffer)
		for _, row := range buffer[:n] {
			if limit > 0 && len(r.list) == limit {
				return nil
			}
			r.list = append(r.list, object(row, leaves))
		}
		if errors.Is(err, io.EOF) || err == nil && n == 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// leavesOf lists the columns in their order; one that is left out has no path.
func leavesOf(s *parquet.Schema) []leaf {
	columns := s.Columns()
	list := make([]leaf, len(columns))
	for i, path := range columns {
		c, ok := s.Lookup(path...)
		if !ok || c.MaxRepetitionLevel > 1 {
			continue
		}
		l := leaf{list: c.MaxRepetitionLevel == 1, def: c.MaxDefinitionLevel}
		l.path = slices.Clone(path)
		if at := slices.Index(path, "list"); l.list && at > 0 && at+1 < len(path) {
			l.path = slices.Delete(l.path, at, at+2) // list, element
		}
		list[i] = l
	}
	return list
}

// object makes the object of a row.
func object(row parquet.Row, leaves []leaf) ojson.Value {
	out := ojson.NewObject()
	row.Range(func(column int, values []parquet.Value) bool {
		l := leaves[column]
		if l.path == nil {
			return true
		}
		v := ojson.Value{}
		if l.list {
			v.Kind = ojson.Array
			for _, x := range values {
				if x.DefinitionLevel() == l.def || len(values) > 1 {
					v.Elems = append(v.Elems, value(x))
				}
			}
		} else if len(values) == 1 {
			v = value(values[0])
		}
		put(&out, l.path, v)
		return true
	})
	return out
}

func put(to *ojson.Value, path []string, v ojson.Value) {
	if len(path) == 1 {
		to.Set(path[0], v)
		return
	}
	inner, _ := to.Get(path[0])
	put(&inner, path[1:], v)
	to.Set(path[0], inner)
}

func value(v parquet.Value) ojson.Value {
	if v.IsNull() {
		return ojson.Value{}
	}
	switch v.Kind() {
	case parquet.Boolean:
		return ojson.NewBool(v.Boolean())
	case parquet.Int32:
		return ojson.NewInt(int(v.Int32()))
	case parquet.Int64:
		return ojson.Value{Kind: ojson.Number, Text: strconv.FormatInt(v.Int64(), 10)}
	case parquet.Float:
		return ojson.NewFloat(float64(v.Float()))
	case parquet.Double:
		return ojson.NewFloat(v.Double())
	case parquet.ByteArray, parquet.FixedLenByteArray:
		return ojson.NewString(string(v.ByteArray()))
	}
	return ojson.NewString(v.String())
}

// readFeatures looks for class labels in what datasets says about its columns;
// a text that it cannot read says nothing.
func (r *rows) readFeatures(text string) {
	v, err := ojson.Parse([]byte(text))
	if err != nil {
		return
	}
	info, _ := v.Get("info")
	features, _ := info.Get("features")
	for _, m := range features.Members {
		if m.Value.Str("_type") != "ClassLabel" {
			continue
		}
		list, _ := m.Value.Get("names")
		if names, ok := list.Strings(); ok {
			r.classNames[m.Name] = names
		}
	}
}
