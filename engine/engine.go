// Package engine runs smelt's work end to end: it plans a fusion from headers,
// surveys spectra, streams the weights, commits the output, and looks into
// what came out. It is the one place where checkpoints, deltas and SMILE meet.
//
// The way of a fusion: OpenInputs → NewPlan → (Survey) → Fuse. A plan consists
// of units; a unit is computed by itself, units are written in their order,
// and a journal makes each one durable, so that the output does not depend on
// the number of workers or on interruptions.
package engine

import "smelt/smile"

// Version of smelt.
const Version = "0.1.0"

const (
	formatVersion = smile.FormatVersion
	modelType     = "smile" // of a fused model's config
)
