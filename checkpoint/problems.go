package checkpoint

import (
	"errors"
	"fmt"
	"strings"
)

// maxLines is how many lines an error about many things takes at most.
const maxLines = 6

// problems collects what is wrong so that it is reported together.
type problems struct{ list []string }

func (p *problems) add(format string, args ...any) {
	p.list = append(p.list, fmt.Sprintf(format, args...))
}

// err returns nil, or one error of at most maxLines lines.
func (p *problems) err() error {
	switch n := len(p.list); {
	case n == 0:
		return nil
	case n <= maxLines:
		return errors.New(strings.Join(p.list, "\n"))
	default:
		return fmt.Errorf("%s\nand %d more", strings.Join(p.list[:maxLines-1], "\n"), n-maxLines+1)
	}
}
