package eval

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"smelt/internal/ojson"
	"smelt/internal/vfs"
	"smelt/processor"
)

// Images is the data of an image classification task. Its methods may be
// called concurrently.
type Images struct {
	Truths  []Truth  // one an image
	Classes []string // entry i names label i
	Key     string   // identifies pictures, labels and corruption

	read    func(i int) (picture, error)
	corrupt Corruption
}

// picture is an image as its data has it: decoded from a file, or packed
// pixels [height, width, channels], of 1 or 3 channels.
type picture struct {
	decoded                 image.Image
	height, width, channels int
	pix                     []byte
}

// OpenImages opens the data of an image classification task.
func OpenImages(fsys vfs.FS, f *File, t *Task) (*Images, error) {
	im := &Images{corrupt: t.Corrupt}
	classes, err := f.classes(fsys, t)
	if err != nil {
		return nil, t.Errorf("%w", err)
	}
	im.Classes = classes
	if t.Data.Images != "" {
		err = im.idx(fsys, f, t)
	} else {
		err = im.open(fsys, f, t)
	}
	if err != nil {
		return nil, t.Errorf("%w", err)
	}
	if err := im.check(t); err != nil {
		return nil, t.Errorf("%w", err)
	}
	if c := t.Corrupt; c.Kind != "" {
		im.Key = fmt.Sprintf("%s %v seed %d", im.Key, c, c.Seed)
	}
	return im, nil
}

// check looks at what all forms of data have in common.
func (im *Images) check(t *Task) error {
	if len(im.Truths) == 0 {
		return errors.New("the data is empty: no images")
	}
	if t.Limit > 0 && t.Limit < len(im.Truths) {
		im.Truths = im.Truths[:t.Limit]
	}
	if len(im.Classes) == 0 {
		return errors.New("has no classes: name them, or use data that names its own")
	}
	for i, x := range im.Truths {
		if x.Class >= len(im.Classes) {
			return fmt.Errorf("image %d has label %d, the task has %d classes (0 to %d)", i, x.Class, len(im.Classes), len(im.Classes)-1)
		}
	}
	return nil
}

// classes returns the task's own list of classes; one entry may be a text
// file with a class a line.
func (f *File) classes(fsys vfs.FS, t *Task) ([]string, error) {
	if len(t.Classes) != 1 || !strings.HasSuffix(t.Classes[0], ".txt") {
		return t.Classes, nil
	}
	text, err := readData(fsys, f.path(t.Classes[0]))
	if err != nil {
		return nil, err
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list, nil
}

// path resolves a path of the file.
func (f *File) path(p string) string { return f.Resolve(p) }

// Resolve returns a path of the task file as seen from the working directory.
func (f *File) Resolve(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(f.Dir, filepath.FromSlash(p))
}

// Len returns the number of images.
func (im *Images) Len() int { return len(im.Truths) }

// Prepare writes image i, corrupted and prepared, to out.
func (im *Images) Prepare(p *processor.Image, i int, out []float32) error {
	x, err := im.read(i)
	if err != nil {
		return err
	}
	x = x.corrupted(im.corrupt, i)
	if x.decoded == nil {
		return p.ProcessRGB(out, x.pix, x.height, x.width)
	}
	v, err := p.Process(x.decoded)
	if err != nil {
		return err
	}
	if len(v) != len(out) {
		return fmt.Errorf("image %d becomes %d values, want %d: the processor does not bring images to one size", i, len(v), len(out))
	}
	copy(out, v)
	return nil
}

// Picture returns image i, corrupted, to be shown.
func (im *Images) Picture(i int) (image.Image, error) {
	x, err := im.read(i)
	if err != nil {
		return nil, err
	}
	if x = x.corrupted(im.corrupt, i); x.decoded != nil {
		return x.decoded, nil
	}
	img := image.NewRGBA(image.Rect(0, 0, x.width, x.height))
	for n := range x.width * x.height {
		c := x.pix[n*x.channels : (n+1)*x.channels]
		img.SetRGBA(n%x.width, n/x.width, color.RGBA{c[0], c[len(c)/2], c[len(c)-1], 255})
	}
	return img, nil
}

func (x picture) corrupted(c Corruption, i int) picture {
	if c.Kind == "" {
		return x
	}
	if x.decoded != nil {
		b := x.decoded.Bounds()
		flat := image.NewRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
		draw.Draw(flat, flat.Rect, image.White, image.Point{}, draw.Src)
		draw.Draw(flat, flat.Rect, x.decoded, b.Min, draw.Over)
		x = picture{height: b.Dy(), width: b.Dx(), channels: 3, pix: make([]byte, 0, 3*b.Dx()*b.Dy())}
		for i := 0; i < len(flat.Pix); i += 4 {
			x.pix = append(x.pix, flat.Pix[i:i+3]...)
		}
	} else {
		x.pix = bytes.Clone(x.pix)
	}
	c.apply(x.pix, x.height, x.width, x.channels, i)
	return x
}

// idx reads a pair of IDX files.
func (im *Images) idx(fsys vfs.FS, f *File, t *Task) error {
	path := f.path(t.Data.Images)
	data, err := readData(fsys, path)
	if err != nil {
		return err
	}
	shape, pix, err := parseIDX(path, data)
	if err != nil {
		return err
	}
	if len(shape) != 3 && (len(shape) != 4 || shape[3] != 3 && shape[3] != 1) {
		return fmt.Errorf("%s: images of shape %v, want [N,H,W] or [N,H,W,3]", path, shape)
	}
	channels := 1
	if len(shape) == 4 {
		channels = shape[3]
	}
	n, h, w := shape[0], shape[1], shape[2]
	im.Truths = make([]Truth, n)
	for i := range im.Truths {
		im.Truths[i].Class = -1
	}
	hash := sha256.New()
	hash.Write(data)
	if t.Data.Labels != "" {
		path := f.path(t.Data.Labels)
		data, err := readData(fsys, path)
		if err != nil {
			return err
		}
		shape, labels, err := parseIDX(path, data)
		if err != nil {
			return err
		}
		if len(shape) != 1 || shape[0] != n {
			return fmt.Errorf("%s: labels of shape %v for %d images, want [%d]", path, shape, n, n)
		}
		for i, v := range labels {
			im.Truths[i].Class = int(v)
		}
		hash.Write(data)
	}
	im.Key = hex.EncodeToString(hash.Sum(nil))
	size := h * w * channels
	im.read = func(i int) (picture, error) {
		return picture{height: h, width: w, channels: channels, pix: pix[i*size : (i+1)*size]}, nil
	}
	return nil
}

// open reads what data names: rows with images in them, or an image folder.
func (im *Images) open(fsys vfs.FS, f *File, t *Task) error {
	paths, folder, err := f.find(fsys, t)
	if err != nil {
		return err
	}
	if folder != "" {
		return im.folder(fsys, folder)
	}
	rows, err := readRows(fsys, paths, t.Limit)
	if err != nil {
		return err
	}
	if len(im.Classes) == 0 {
		im.Classes = rows.classNames[t.Data.Label]
	}
	im.Key = rows.key
	im.Truths = make([]Truth, len(rows.list))
	for i, r := range rows.list {
		if im.Truths[i].Class, err = im.label(r, t); err != nil {
			return fmt.Errorf("%s: %w", rows.place(i), err)
		}
		if _, ok := r.Get(t.Data.Image); !ok {
			return fmt.Errorf("%s: has no field %q for the image: it has %s", rows.place(i), t.Data.Image, fieldNames(r))
		}
	}
	im.read = func(i int) (picture, error) {
		v, _ := rows.list[i].Get(t.Data.Image)
		img, err := decode(fsys, v, filepath.Dir(rows.file(i)))
		if err != nil {
			return picture{}, fmt.Errorf("%s: %w", rows.place(i), err)
		}
		return picture{decoded: img}, nil
	}
	return nil
}

// label reads the label of a row: a number, or the name of a class.
func (im *Images) label(r ojson.Value, t *Task) (int, error) {
	v, ok := r.Get(t.Data.Label)
	if !ok || v.Kind == ojson.Null {
		if t.Metric == Agreement {
			return -1, nil
		}
		return 0, fmt.Errorf("has no label %q: it has %s", t.Data.Label, fieldNames(r))
	}
	if n, ok := whole(v); ok {
		if n < 0 || n > 1<<30 {
			return 0, fmt.Errorf("label %d, want 0 to %d", n, len(im.Classes)-1)
		}
		return n, nil
	}
	if i := slices.Index(im.Classes, v.Text); v.Kind == ojson.String && i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("label %.60q is none of the %d classes", v.Text, len(im.Classes))
}

// decode reads the image of a row: encoded bytes, {bytes, path}, or a path
// relative to the data file.
func decode(fsys vfs.FS, v ojson.Value, dir string) (image.Image, error) {
	data := v.Text
	if v.Kind == ojson.Object {
		data = v.Str("bytes")
		if path := v.Str("path"); data == "" && path != "" {
			v = ojson.NewString(path)
			data = path
		}
	} else if v.Kind != ojson.String {
		return nil, fmt.Errorf("want encoded bytes or a path, got %s", v.Kind.A())
	}
	if v.Kind == ojson.String && len(data) < 4096 && !strings.ContainsAny(data, "\x00\n") {
		return readImage(fsys, filepath.Join(dir, filepath.FromSlash(data)))
	}
	return processor.Read(strings.NewReader(data))
}

const maxImageFile = 256 << 20

func readImage(fsys vfs.FS, path string) (image.Image, error) {
	data, err := vfs.ReadFile(fsys, path, maxImageFile)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("file %s does not exist", path)
		}
		return nil, err
	}
	img, err := processor.Read(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return img, nil
}
