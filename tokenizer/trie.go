package tokenizer

import "fmt"

// trie maps byte strings to ids: nodes are numbers, edges lie in one hash table.
type trie struct {
	ids   []int32  // by node; -1 where no key ends
	edges []uint64 // node and byte + 1 in the upper half, child in the lower
	mask  uint64
	used  int
	first [256]int32 // children of the root
}

const maxTrieNodes = 1 << 24

func (t *trie) init(keys int) {
	size := 64
	for size < 8*keys {
		size *= 2
	}
	t.ids = append(t.ids, -1)
	t.edges, t.mask = make([]uint64, size), uint64(size-1)
	for i := range t.first {
		t.first[i] = -1
	}
}

func (t *trie) slot(key uint32) uint64 {
	h := uint64(key) * 0x9E3779B97F4A7C15
	i := (h ^ h>>32) & t.mask
	for e := t.edges[i] >> 32; e != 0 && e != uint64(key); e = t.edges[i] >> 32 {
		i = (i + 1) & t.mask
	}
	return i
}

// edgeKey is unique for each node but the root, and byte, and not 0.
func edgeKey(node int32, b byte) uint32 { return uint32(node)<<8 | uint32(b) }

// next returns the child of node by b, or -1.
func (t *trie) next(node int32, b byte) int32 {
	if node == 0 {
		return t.first[b]
	}
	e := t.edges[t.slot(edgeKey(node, b))]
	if e == 0 {
		return -1
	}
	return int32(uint32(e))
}

// put adds a key; the last of equal keys stays.
func (t *trie) put(key string, id int32) error {
	node := int32(0)
	for i := range len(key) {
		child := t.next(node, key[i])
		if child < 0 {
			child = int32(len(t.ids))
			if child >= maxTrieNodes {
				return fmt.Errorf("tokens need more than %d trie nodes", maxTrieNodes)
			}
			t.ids = append(t.ids, -1)
			if node == 0 {
				t.first[key[i]] = child
			} else {
				t.link(edgeKey(node, key[i]), child)
			}
		}
		node = child
	}
	t.ids[node] = id
	return nil
}

func (t *trie) link(key uint32, child int32) {
	if t.used++; 2*t.used > len(t.edges) {
		old := t.edges
		t.edges, t.mask = make([]uint64, 2*len(old)), uint64(2*len(old)-1)
		for _, e := range old {
			if e != 0 {
				t.edges[t.slot(uint32(e>>32))] = e
			}
		}
	}
	t.edges[t.slot(key)] = uint64(key)<<32 | uint64(uint32(child))
}
