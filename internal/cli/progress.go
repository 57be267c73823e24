package cli

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"smelt/engine"
)

const (
	quiet = 2 * time.Second  // work shorter than this shows nothing
	every = 10 * time.Second // between plain lines
)

// progress shows how far work is, on standard error: a bar on a terminal,
// plain lines elsewhere.
func (a *app) progress() engine.Progress {
	var (
		what        string
		total, done int64
		start, next time.Time
		bars        *mpb.Progress
		bar         *mpb.Bar
	)
	show := func() {
		elapsed := time.Since(start)
		if elapsed < quiet || total == 0 {
			return
		}
		if terminal(a.err) {
			if bar == nil {
				bars = mpb.New(mpb.WithOutput(a.err), mpb.WithWidth(40))
				bar = bars.AddBar(total,
					mpb.PrependDecorators(decor.Name(what+" ")),
					mpb.AppendDecorators(decor.Percentage(), decor.Name(" "), decor.Any(func(decor.Statistics) string { return rate(done, start) }),
						decor.Name(" "), decor.Any(func(decor.Statistics) string { return eta(done, total, start) })),
					mpb.BarRemoveOnComplete())
			}
			bar.SetCurrent(done)
			return
		}
		if now := time.Now(); now.After(next) {
			next = now.Add(every)
			fmt.Fprintf(a.err, "%s: %.0f %% of %s, %s, %s\n", what, 100*float64(done)/float64(total), bytes(total), rate(done, start), eta(done, total, start))
		}
	}
	return engine.Progress{
		Start: func(w string, t int64) { what, total, done, start, next = w, t, 0, time.Now(), time.Now().Add(quiet) },
		Add:   func(n int64) { done += n; show() },
		Done: func() {
			if bar != nil {
				bar.SetCurrent(total)
				bars.Wait()
				bar = nil
			}
		},
	}
}

func rate(done int64, start time.Time) string {
	return bytes(int64(float64(done)/time.Since(start).Seconds())) + "/s"
}

func eta(done, total int64, start time.Time) string {
	if done == 0 {
		return "ETA –"
	}
	left := time.Duration(float64(time.Since(start)) * float64(total-done) / float64(done))
	return "ETA " + left.Round(time.Second).String()
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	return term.IsTerminal(int(f.Fd()))
}
