package engine

import "time"

// Progress is told how far work has come. Its methods are called from one
// goroutine at a time; the zero Progress is silent.
type Progress struct {
	Start func(what string, total int64) // total in bytes of input
	Add   func(n int64)
	Done  func()
}

func (p Progress) start(what string, total int64) {
	if p.Start != nil {
		p.Start(what, total)
	}
}

func (p Progress) add(n int64) {
	if p.Add != nil {
		p.Add(n)
	}
}

func (p Progress) done() {
	if p.Done != nil {
		p.Done()
	}
}

// Timing says where the time of a run went.
type Timing struct {
	Total time.Duration `json:"total"`
	Sync  time.Duration `json:"sync"` // making the output durable, the end included
}
