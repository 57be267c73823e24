package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/zeebo/xxh3"

	"smelt/dtype"
	"smelt/internal/vfs"
	"smelt/safetensors"
)

// The two streams of tensors that a store writes.
const (
	streamBase    = 0 // the base's tensors
	streamExperts = 1 // the experts' tensors
)

var streamNames = [...]string{"base", "experts"}

// metadata is what transformers asks of a checkpoint's header.
var metadata = map[string]string{"format": "pt"}

// syncBytes and syncTime say how much work a crash may cost: data is made
// durable and journalled after that many bytes, or that long.
var syncBytes int64 = 256 << 20

const syncTime = 5 * time.Second

// stored is a tensor that has been written.
type stored struct {
	Name  string `json:"name"`
	DType string `json:"dtype"`
	Shape []int  `json:"shape"`
	XXH3  string `json:"xxh3_128"`
}

// output is a tensor to be written, with its checksum.
type output struct {
	safetensors.Named
	stream int
	sum    string // its checksum
}

// seal computes the checksum of a tensor: in the worker, so that it costs the
// writer no time.
func seal(stream int, t safetensors.Named) output {
	return output{t, stream, checksum(t.Data)}
}

// checksum is XXH3 of 128 bits, in hexadecimal as xxhsum writes it: it reads
// data as fast as memory gives them, and finds damage, not forgery.
func checksum(data []byte) string {
	sum := xxh3.Hash128(data).Bytes()
	return hex.EncodeToString(sum[:])
}

// record is a line of the journal: one unit of the plan, done.
type record struct {
	Unit    int         `json:"unit"`
	Tensors [2][]stored `json:"tensors"`
	Report  report      `json:"report"`

	size int64 // of the line in the journal
}

const journalName = "journal.jsonl"

// journalHead is the first line of the journal of a key.
func journalHead(key string) ([]byte, error) {
	line, err := json.Marshal(map[string]string{"key": key})
	return append(line, '\n'), err
}

// store writes the shards of one output, unit by unit, so that a killed run
// can go on: data first, made durable, then a line in the journal that says
// so. Shards are cut greedily in the order of the tensors, headers are put in
// place at the end.
type store struct {
	fs       vfs.FS
	dir      string                          // of the shards
	first    int                             // the first unit
	units    int                             // how many there are
	names    func(counts [2]int) [2][]string // of the finished shards
	journal  vfs.File
	at       int64 // end of the journal
	streams  [2]stream
	records  []record // done, in order
	pending  []record // written, not yet durable
	dirty    int64
	synced   time.Time
	syncTook time.Duration
	bytes    int64 // written by this run
}

// stream is a sequence of shards.
type stream struct {
	name    string
	reserve int   // bytes kept free for the header
	max     int64 // bytes of data in a shard
	shards  []shard
}

type shard struct {
	infos []safetensors.Info
	sums  []string
	size  int64    // of the data
	file  vfs.File // nil once closed
}

func (s *stream) temporary(i int) string { return fmt.Sprintf("%s-%05d.partial", s.name, i+1) }

// place finds room for the next tensor and says in which shard it lies.
func (s *stream) place(name string, d dtype.DType, shape []int, size int64, sum string) int {
	n := len(s.shards)
	if n == 0 || s.shards[n-1].size > 0 && s.shards[n-1].size+size > s.max {
		s.shards = append(s.shards, shard{})
		n++
	}
	sh := &s.shards[n-1]
	sh.infos = append(sh.infos, safetensors.Info{Name: name, DType: d, Shape: shape, Begin: sh.size, End: sh.size + size})
	sh.sums = append(sh.sums, sum)
	sh.size += size
	return n - 1
}

// openStore opens the existing work folder dir and goes on where its journal
// ends if it was written under the same key; otherwise it starts anew. units
// is the number of units to come in all; reserve and maxShard are those of
// the streams.
func openStore(fsys vfs.FS, dir, key string, first, units int, reserve [2]int, maxShard int64, names func(counts [2]int) [2][]string) (*store, error) {
	s := &store{fs: fsys, dir: filepath.Join(dir, "out"), first: first, units: units, names: names, synced: time.Now()}
	for i := range s.streams {
		s.streams[i] = stream{name: streamNames[i], reserve: reserve[i], max: maxShard}
	}
	head, err := journalHead(key)
	if err != nil {
		return nil, err
	}
	if s.records, err = readJournal(fsys, dir, key, first); err != nil {
		return nil, err
	}
	s.at = int64(len(head))
	resumed := len(s.records) > 0 && s.replay() && s.reopen()
	if !resumed {
		for i := range s.streams {
			s.streams[i].shards = nil
		}
		s.records, s.at = nil, int64(len(head))
		if err := fsys.RemoveAll(s.dir); err != nil {
			return nil, err
		}
		if err := fsys.Mkdir(s.dir); err != nil {
			return nil, err
		}
	}
	if s.journal, err = fsys.OpenWrite(filepath.Join(dir, journalName)); err != nil {
		return nil, err
	}
	if !resumed {
		if _, err := s.journal.WriteAt(head, 0); err != nil {
			return nil, err
		}
	}
	if err := s.journal.Truncate(s.at); err != nil {
		return nil, err
	}
	if err := s.journal.Sync(); err != nil {
		return nil, err
	}
	return s, fsys.SyncDir(dir)
}

// readJournal reads the complete lines of the journal in a work folder, none
// where there is no journal or one of another key.
func readJournal(fsys vfs.FS, dir, key string, first int) ([]record, error) {
	text, err := vfs.ReadFile(fsys, filepath.Join(dir, journalName), 4<<30)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	head, err := journalHead(key)
	if err != nil {
		return nil, err
	}
	text, ok := bytes.CutPrefix(text, head)
	var records []record
	for ok {
		var line []byte
		if line, text, ok = bytes.Cut(text, []byte{'\n'}); !ok {
			break
		}
		r := record{size: int64(len(line)) + 1}
		if json.Unmarshal(line, &r) != nil || r.Unit != first+len(records) {
			break
		}
		records = append(records, r)
	}
	return records, nil
}

// replay takes over the records of an earlier run.
func (s *store) replay() bool {
	for _, r := range s.records {
		for i := range r.Tensors {
			for _, t := range r.Tensors[i] {
				d, err := dtype.Parse(t.DType)
				if err != nil {
					return false
				}
				size := int64(d.Size())
				for _, n := range t.Shape {
					size *= int64(n)
				}
				s.streams[i].place(t.Name, d, t.Shape, size, t.XXH3)
			}
		}
		s.at += r.size
	}
	return true
}

// reopen checks that the shards hold what the journal says, and cuts what was
// written after its last line. A shard that has its final name already was
// renamed by a run that was killed while it committed: it gets its working
// name back.
func (s *store) reopen() bool {
	final := s.final()
	for i := range s.streams {
		st := &s.streams[i]
		for j := range st.shards {
			sh := &st.shards[j]
			path := filepath.Join(s.dir, st.temporary(j))
			if _, err := s.fs.Stat(path); errors.Is(err, fs.ErrNotExist) && len(s.records) == s.units {
				if s.fs.Rename(filepath.Join(s.dir, final[i][j]), path) != nil {
					return false
				}
			} else if err != nil {
				return false
			}
			f, err := s.fs.OpenWrite(path)
			if err != nil {
				return false
			}
			want := int64(st.reserve) + sh.size
			if size, err := f.Size(); err != nil || size < want || f.Truncate(want) != nil {
				f.Close()
				return false
			}
			sh.file = f
		}
	}
	return true
}

// next is the unit to be written next.
func (s *store) next() int { return s.first + len(s.records) + len(s.pending) }

// add writes the tensors of unit next() and remembers its report.
func (s *store) add(tensors []output, rep report) error {
	r := record{Unit: s.next(), Report: rep}
	for _, t := range tensors {
		st := &s.streams[t.stream]
		size := int64(len(t.Data))
		j := st.place(t.Name, t.DType, t.Shape, size, t.sum)
		sh := &st.shards[j]
		if sh.file == nil {
			f, err := s.fs.Create(filepath.Join(s.dir, st.temporary(j)))
			if err != nil {
				return err
			}
			sh.file = f
		}
		if _, err := sh.file.WriteAt(t.Data, int64(st.reserve)+sh.size-size); err != nil {
			return fmt.Errorf("write tensor %q: %w", t.Name, err)
		}
		r.Tensors[t.stream] = append(r.Tensors[t.stream], stored{t.Name, t.DType.String(), t.Shape, t.sum})
		s.dirty += size
		s.bytes += size
	}
	s.pending = append(s.pending, r)
	if s.dirty >= syncBytes || time.Since(s.synced) > syncTime {
		return s.sync()
	}
	return nil
}

// sync makes the pending units durable: data, then the journal.
func (s *store) sync() error {
	start := time.Now()
	for i := range s.streams {
		st := &s.streams[i]
		for j := range st.shards {
			sh := &st.shards[j]
			if sh.file == nil {
				continue
			}
			if err := sh.file.Sync(); err != nil {
				return err
			}
			if j < len(st.shards)-1 { // full
				if err := sh.file.Close(); err != nil {
					return err
				}
				sh.file = nil
			}
		}
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return err
	}
	var lines []byte
	for _, r := range s.pending {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		lines = append(append(lines, line...), '\n')
	}
	if _, err := s.journal.WriteAt(lines, s.at); err != nil {
		return err
	}
	if err := s.journal.Sync(); err != nil {
		return err
	}
	s.at += int64(len(lines))
	s.records = append(s.records, s.pending...)
	s.pending, s.dirty, s.synced = nil, 0, time.Now()
	s.syncTook += time.Since(start)
	return nil
}

// close releases the files; what was not synced is written again by the next
// run.
func (s *store) close() {
	for i := range s.streams {
		for j := range s.streams[i].shards {
			if f := s.streams[i].shards[j].file; f != nil {
				f.Close()
				s.streams[i].shards[j].file = nil
			}
		}
	}
	if s.journal != nil {
		s.journal.Close()
	}
}

func (s *store) final() [2][]string {
	return s.names([2]int{len(s.streams[0].shards), len(s.streams[1].shards)})
}

// finish, called after sync, writes the headers and gives the shards their final names. It returns
// the shards as the manifest lists them, and the shard of each tensor.
func (s *store) finish() (map[string]manifestShard, map[string]string, error) {
	final := s.final()
	shards := map[string]manifestShard{}
	index := map[string]string{}
	for i := range s.streams {
		st := &s.streams[i]
		for j := range st.shards {
			sh := &st.shards[j]
			head, err := safetensors.EncodeHeader(sh.infos, metadata, st.reserve)
			if err != nil {
				return nil, nil, err
			}
			if len(head) != st.reserve {
				return nil, nil, fmt.Errorf("engine: header of %d bytes where %d were reserved: this is a bug of smelt", len(head), st.reserve)
			}
			path := filepath.Join(s.dir, st.temporary(j))
			if sh.file == nil {
				if sh.file, err = s.fs.OpenWrite(path); err != nil {
					return nil, nil, err
				}
			}
			if _, err := sh.file.WriteAt(head, 0); err != nil {
				return nil, nil, err
			}
			err = errors.Join(sh.file.Sync(), sh.file.Close())
			sh.file = nil
			if err != nil {
				return nil, nil, err
			}
			m := manifestShard{Bytes: int64(len(head)) + sh.size, Tensors: map[string]string{}}
			sum := sha256.Sum256(head)
			m.HeaderSHA256 = hex.EncodeToString(sum[:])
			for k, info := range sh.infos {
				m.Tensors[info.Name] = sh.sums[k]
				index[info.Name] = final[i][j]
			}
			shards[final[i][j]] = m
			if err := s.fs.Rename(path, filepath.Join(s.dir, final[i][j])); err != nil {
				return nil, nil, err
			}
		}
	}
	return shards, index, nil
}
