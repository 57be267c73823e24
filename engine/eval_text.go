package engine

import (
	"fmt"
)

func (e *evaluation) newReader(s *subject, t *evalTask) (answerer, error) {
	return nil, fmt.Errorf("task type %s", t.Type)
}
