package main

import (
	"errors"
	"os"
	"os/exec"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

// hostile are templates that must end in an error.
var hostile = []struct{ name, source string }{
	{"a macro that calls itself", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"},
	{"loops in loops", "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}"},
	{"a string that doubles", "{% set ns = namespace(x='aaaaaaaaaa') %}{% for a in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}"},
	{"a range of 10¹²", "{% for a in range(1000000000000) %}{% endfor %}"},
	{"a million parentheses", "{{ " + strings.Repeat("(", 1_000_000) + "1" + strings.Repeat(")", 1_000_000) + " }}"},
	{"ten million parentheses", "{{ " + strings.Repeat("(", 10_000_000) + "1" + strings.Repeat(")", 10_000_000) + " }}"},
}

const (
	exitCrash  = 2 // Go's own
	exitError  = 3
	exitTime   = 4
	exitMemory = 5

	maxTime   = 5 * time.Second
	maxMemory = 1 << 30
)

// watch ends the process after maxTime, or as its heap goes over maxMemory.
func watch() {
	go func() {
		heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		for range maxTime / time.Millisecond {
			time.Sleep(time.Millisecond)
			if metrics.Read(heap); heap[0].Value.Uint64() > maxMemory {
				os.Exit(exitMemory)
			}
		}
		os.Exit(exitTime)
	}()
}

// attack renders a hostile template in a process of its own and says how it ends.
func attack(e engine, i int) string {
	self, err := os.Executable()
	if err != nil {
		return err.Error()
	}
	err = exec.Command(self, "-hostile", strconv.Itoa(i), e.name).Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "renders"
	case !errors.As(err, &exit):
		return err.Error()
	}
	switch exit.ExitCode() {
	case exitError:
		return "an error"
	case exitTime:
		return "runs on after " + maxTime.String()
	case exitMemory:
		return "takes more than 1 GiB"
	case exitCrash:
		return "kills the process (stack overflow)"
	}
	return exit.String()
}
