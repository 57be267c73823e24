package tokenizer

// mergeTable maps pairs of ids to the rank and the result of their merge: open
// addressing, at most half full.
type mergeTable struct {
	keys   []uint64 // pair + 1; 0 is free
	values []uint64 // rank and result
	mask   uint64
}

func newMergeTable(count int) mergeTable {
	size := 16
	for size < 2*count {
		size *= 2
	}
	return mergeTable{make([]uint64, size), make([]uint64, size), uint64(size - 1)}
}

func pairKey(left, right int32) uint64 { return (uint64(uint32(left))<<32 | uint64(uint32(right))) + 1 }

func (t *mergeTable) slot(key uint64) uint64 {
	h := key * 0x9E3779B97F4A7C15
	i := (h ^ h>>32) & t.mask
	for t.keys[i] != 0 && t.keys[i] != key {
		i = (i + 1) & t.mask
	}
	return i
}

// put adds a merge; a later one for the same pair replaces it.
func (t *mergeTable) put(left, right, rank, id int32) {
	key := pairKey(left, right)
	i := t.slot(key)
	t.keys[i], t.values[i] = key, uint64(uint32(rank))<<32|uint64(uint32(id))
}

// get returns the merge of a pair: rank in the upper half, result in the lower.
func (t *mergeTable) get(left, right int32) (uint64, bool) {
	i := t.slot(pairKey(left, right))
	return t.values[i], t.keys[i] != 0
}

const noMerge = ^uint64(0)

// shortWord is up to how many symbols a plain search for the best pair beats
// the heap.
const shortWord = 48

// apply merges symbols in place and returns what is left.
func (t *mergeTable) apply(ids []int32, s *scratch) []int32 {
	if len(ids) < 2 {
		return ids
	}
	if len(ids) > shortWord {
		return t.applyHeap(ids, s)
	}
	var ranks [shortWord]uint64 // of the pair that begins here
	for i := range len(ids) - 1 {
		ranks[i] = t.rank(ids[i], ids[i+1])
	}
	for n := len(ids) - 1; n > 0; n-- {
		best, at := noMerge, -1
		for i, r := range ranks[:n] {
			if r>>32 < best>>32 {
				best, at = r, i
			}
		}
		if at < 0 {
			break
		}
		ids[at] = int32(uint32(best))
		copy(ids[at+1:], ids[at+2:])
		ids = ids[:n]
		copy(ranks[at:], ranks[at+1:n])
		if at > 0 {
			ranks[at-1] = t.rank(ids[at-1], ids[at])
		}
		if at < n-1 {
			ranks[at] = t.rank(ids[at], ids[at+1])
		}
	}
	return ids
}

func (t *mergeTable) rank(left, right int32) uint64 {
	if v, ok := t.get(left, right); ok {
		return v
	}
	return noMerge
}

// symbol is one element of the linked list of a long word.
type symbol struct {
	id         int32
	prev, next int32 // -1: none
	gone       bool
}

// merge32 is a candidate: the pair that begins at pos.
type merge32 struct {
	value uint64
	pos   int32
}

func (m merge32) before(o merge32) bool {
	if m.value>>32 != o.value>>32 {
		return m.value>>32 < o.value>>32
	}
	return m.pos < o.pos
}

// applyHeap does the same in n·log n.
func (t *mergeTable) applyHeap(ids []int32, s *scratch) []int32 {
	syms, heap := s.syms[:0], s.heap[:0]
	for i, id := range ids {
		syms = append(syms, symbol{id: id, prev: int32(i) - 1, next: int32(i) + 1})
	}
	syms[len(syms)-1].next = -1
	for i := range len(ids) - 1 {
		if v, ok := t.get(ids[i], ids[i+1]); ok {
			heap = push(heap, merge32{v, int32(i)})
		}
	}
	for len(heap) > 0 {
		var top merge32
		heap, top = pop(heap)
		left := &syms[top.pos]
		if left.gone || left.next < 0 {
			continue
		}
		right := &syms[left.next]
		if v, ok := t.get(left.id, right.id); !ok || uint32(v) != uint32(top.value) {
			continue // the pair has changed since
		}
		left.id, left.next, right.gone = int32(uint32(top.value)), right.next, true
		if left.next >= 0 {
			syms[left.next].prev = top.pos
			if v, ok := t.get(left.id, syms[left.next].id); ok {
				heap = push(heap, merge32{v, top.pos})
			}
		}
		if left.prev >= 0 {
			if v, ok := t.get(syms[left.prev].id, left.id); ok {
				heap = push(heap, merge32{v, left.prev})
			}
		}
	}
	ids = ids[:0]
	for i := range syms {
		if !syms[i].gone {
			ids = append(ids, syms[i].id)
		}
	}
	s.syms, s.heap = syms, heap
	return ids
}

// push adds m to a binary heap with the first candidate on top.
func push(heap []merge32, m merge32) []merge32 {
	heap = append(heap, m)
	i := len(heap) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !m.before(heap[parent]) {
			break
		}
		heap[i] = heap[parent]
		i = parent
	}
	heap[i] = m
	return heap
}

// pop takes the top.
func pop(heap []merge32) ([]merge32, merge32) {
	top, m := heap[0], heap[len(heap)-1]
	heap = heap[:len(heap)-1]
	i := 0
	for {
		child := 2*i + 1
		if child >= len(heap) {
			break
		}
		if child+1 < len(heap) && heap[child+1].before(heap[child]) {
			child++
		}
		if !heap[child].before(m) {
			break
		}
		heap[i] = heap[child]
		i = child
	}
	if len(heap) > 0 {
		heap[i] = m
	}
	return heap, top
}
