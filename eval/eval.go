// Package eval measures models: task files, the data sets that they name, the
// metrics, confidence intervals, and the tables that come out. It knows no
// model: package engine runs them and hands back one Answer an example.
package eval

// Version numbers what decides an answer beside model and data: how examples
// are read, prepared and asked. Cached answers of another version are not
// used.
const Version = 1

// Answer is what a model said to one example. Which fields count is the task
// type's affair.
type Answer struct {
	Class      int     `json:"c,omitempty"` // image classification, multiple choice
	Normalised int     `json:"n,omitempty"` // multiple choice: by log-likelihood per byte
	Text       string  `json:"t,omitempty"` // text to text
	LogProb    float64 `json:"l,omitempty"` // perplexity: of the document, natural logarithm
	Tokens     int     `json:"k,omitempty"` // perplexity: tokens that were predicted
	Expert     int     `json:"e,omitempty"` // 1 + the expert that most tokens of the example took, 0 where there is none
}

// Truth is what is known of one example.
type Truth struct {
	Class int    // image classification, multiple choice; -1 where the data has no label
	Text  string // text to text
	Bytes int    // perplexity: of the document
}
