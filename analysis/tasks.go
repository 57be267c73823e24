package analysis

// Tasks is what was measured with data.
type Tasks struct {
	// Zones is the accuracy of base + projection of an expert's ΔW on each zone,
	// with all that is no linear layer taken from the expert.
	Zones []ZoneAccuracy `json:"zones"`
	// Routing and Errors come from passes of the fused model and of each
	// individual model over the same inputs.
	Routing []ModuleRouting `json:"routing"`
	Errors  []StageError    `json:"errors"`
	// Agreement holds the routers' forecast against Routing; null where there is
	// nothing to compare.
	Agreement *Agreement `json:"agreement"`
}

// ZoneAccuracy is one expert on its own task.
type ZoneAccuracy struct {
	Expert  int    `json:"expert"`
	Task    string `json:"task"`
	Samples int    `json:"samples"`
	Metric  string `json:"metric"` // accuracy, …: what the task is scored by
	Base    Figure `json:"base"`
	Full    Figure `json:"full"` // the expert as it is
	I       Figure `json:"I"`
	II      Figure `json:"II"`
	IIIII   Figure `json:"II+III"`
}

// ModuleRouting is what the router of one fused module did with the tokens of
// one expert's task.
type ModuleRouting struct {
	Module string `json:"module"`
	Expert int    `json:"expert"` // whose task it is
	Tokens int    `json:"tokens"`
	// Taken, by expert, is the share of tokens that it got; Right that of the
	// task's own expert.
	Taken  []float64 `json:"taken"`
	Right  float64   `json:"right"`
	Margin float64   `json:"margin"` // mean of (best score − second best)/best
	// Base and Adaptation are root mean squares over tokens of ‖W0·x‖ and of
	// ‖E(x)‖ of the expert that was taken.
	Base       Figure `json:"base_norm"`
	Adaptation Figure `json:"adaptation_norm"`
}

// StageError is the relative error ‖h − h*‖/‖h*‖ (root of sums over tokens) of
// the hidden states after one stage, h* being those of the individual model.
type StageError struct {
	Stage  string  `json:"stage"`
	Expert int     `json:"expert"` // whose task it is
	Total  float64 `json:"total"`  // the fused model as it is
	Oracle float64 `json:"oracle"` // routed right everywhere: no loss from routing
	Rank   float64 `json:"rank"`   // routed right, and all that is not fused the expert's own: loss from rank alone
	Base   float64 `json:"base"`   // the base model: what there was to lose
}
