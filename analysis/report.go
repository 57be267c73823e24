// Package analysis measures what fine-tuning did to a base model, from the
// weights: in which singular subspaces of the base a change lives, how fast its
// spectrum falls, how the changes of several experts stand in each other's way,
// and what ranks follow. It holds the numbers and the arithmetic; package engine
// streams the weights through it and package report draws it.
//
// Shape letters: m = out, n = in of a linear layer, p = min(m,n), E experts,
// g the router's rank.
package analysis

// Format is the version of [Report] on disk: docs/format/analysis.md.
const Format = 2

// Report is a whole analysis, as analysis.json holds it. Arrays "by expert" have
// one entry for each of Experts, in that order; arrays "by pair" one for each of
// PairNames, in that order. Shares are between 0 and 1. A figure that does not
// exist is null.
type Report struct {
	Format    int             `json:"format"`
	Generator string          `json:"generator"`
	Base      Base            `json:"base"`
	Experts   []Expert        `json:"experts"` // sorted by name
	PairNames [][2]int        `json:"pairs"`   // (0,1), (0,2) … (1,2) …: indices into Experts
	Settings  Settings        `json:"settings"`
	Layers    []Layer         `json:"layers"` // in the base's order; those that no expert touched too
	Groups    []Group         `json:"groups"` // sums over layers of one kind, over layers of one depth, and over all
	Pairs     []Pair          `json:"overall_pairs"`
	Losses    []Loss          `json:"overall_losses"`    // by expert
	Confusion *RouterForecast `json:"overall_confusion"` // mean of the layers'; null below two experts that touched one layer
	Others    []Other         `json:"others"`            // changed tensors that are no linear layer, largest share first
	Advice    Advice          `json:"advice"`
	Tasks     *Tasks          `json:"tasks,omitempty"` // with data only
	Notes     []string        `json:"notes"`           // what is special about these inputs, in sentences
}

// Base describes the base model.
type Base struct {
	Name       string `json:"name"`
	ModelType  string `json:"model_type"`
	Parameters int64  `json:"parameters"`
	Linear     int64  `json:"linear_parameters"` // in the weights of linear layers
}

// Expert sums one expert up over the whole model.
type Expert struct {
	Name       string `json:"name"`
	Kind       string `json:"kind"`                // full or lora
	Rank       int    `json:"lora_rank,omitempty"` // largest, of an adapter
	Parameters int64  `json:"parameters"`
	Touched    int    `json:"touched_layers"`
	Equal      bool   `json:"equal_to_base"`

	Energy   float64 `json:"energy"`          // Σ ‖ΔW‖² over linear layers
	Others   float64 `json:"others_energy"`   // Σ ‖Δ‖² of biases and all other tensors
	Relative Figure  `json:"relative_change"` // √(Σ‖ΔW‖²/Σ‖W0‖²) over linear layers
	// Zones are the shares of the energy of all layers together; null where the
	// expert touched no layer.
	Zones *Zones `json:"zones"`
	// Rank90, Rank95 and Rank99 are mean ranks over the touched layers.
	EffectiveRank Figure `json:"effective_rank"`
	StableRank    Figure `json:"stable_rank"`
	Rank90        Figure `json:"rank_90"`
	Rank95        Figure `json:"rank_95"`
	Rank99        Figure `json:"rank_99"`
}

// Settings are what the analysis was asked for.
type Settings struct {
	Rank          int     `json:"rank"`           // of experts, in losses and overlaps with SMILE
	RouterRank    int     `json:"router_rank"`    // g
	ScalingFactor float64 `json:"scaling_factor"` // λ of task arithmetic
	Samples       int     `json:"samples"`        // drawn for the predicted confusion, per expert
	// ExactSize is the largest p up to which the spectrum of a dense delta is
	// taken whole; beyond it the leading Depth values are taken.
	ExactSize int `json:"exact_size"`
	Depth     int `json:"depth"`
}

// Layer is one linear layer.
type Layer struct {
	Name  string `json:"name"`  // the module, without ".weight"
	Kind  string `json:"kind"`  // q, k, v, o, fc1, fc2, gate, up, down, …: what it does in its block
	Tower string `json:"tower"` // what stands before the number of the block: "vision_model.encoder.layers"
	Depth int    `json:"depth"` // number of the block, −1 where it has none
	In    int    `json:"in"`
	Out   int    `json:"out"`

	Base    BaseLayer `json:"base"`
	Ranks   []int     `json:"ranks"`  // at which spectra are given: 1, 2, … p
	Experts []*Delta  `json:"deltas"` // by expert; null where untouched
	// RouterRank is g here: the smallest of Settings.RouterRank and the numerical
	// ranks of the touched experts; 0 where nobody touched the layer.
	RouterRank int             `json:"router_rank"`
	Pairs      []*LayerPair    `json:"layer_pairs"` // by pair; null where one of the two did not touch it
	Baseline   *Baseline       `json:"baseline"`    // of the pairs' overlaps; null below two touched experts
	Losses     []Loss          `json:"losses"`      // by expert
	Confusion  *RouterForecast `json:"confusion"`   // null below two touched experts
}

// BaseLayer is what the base's weight W0 = U·Σ·Vᵀ looks like. Of a layer that no
// expert touched only the energy is known; the rest is zero.
type BaseLayer struct {
	Energy   float64   `json:"energy"`    // ‖W0‖²
	HalfRank int       `json:"half_rank"` // r_half: singular values up to here sum to half of all
	Rank     int       `json:"rank"`      // numerical, in float64; p for nearly every trained layer
	Sigma    []float64 `json:"sigma"`     // singular values at Layer.Ranks
	// EffectiveRank as of a [Delta].
	EffectiveRank float64 `json:"effective_rank"`
}

// Zones are shares of ‖ΔW‖² by the base's singular subspaces: zone I the first
// r_half directions, zone II the others up to the rank, zone III the null space
// (of full U and V). Blocks[y][z] is the share that lies in U's zone y and V's
// zone z, ‖U_yᵀ·ΔW·V_z‖²/‖ΔW‖²; all nine sum to 1.
type Zones struct {
	I      float64       `json:"I"`      // Blocks[0][0]
	II     float64       `json:"II"`     // Blocks[1][1]
	III    float64       `json:"III"`    // Blocks[2][2]; 0 where W0 has full rank
	IIIII  float64       `json:"II+III"` // the four blocks outside zone I on both sides
	Cross  float64       `json:"cross"`  // 1 − I − (II+III): in zone I on one side only
	Left   [3]float64    `json:"left"`   // by zone of U alone: sums to 1
	Right  [3]float64    `json:"right"`  // by zone of V alone: sums to 1
	Blocks [3][3]float64 `json:"blocks"`
	// Even is what I, II, III, II+III and cross would be for a change without
	// direction: the zones' shares of all m·n dimensions.
	Even [5]float64 `json:"even"`
}

// Delta is what one expert changed in one layer. Ranks and effective rank of a
// delta with Complete false are lower bounds.
type Delta struct {
	Energy     float64   `json:"energy"`     // ‖ΔW‖²
	Relative   Figure    `json:"relative"`   // ‖ΔW‖/‖W0‖
	Share      float64   `json:"share"`      // of the expert's energy over all layers
	Bias       float64   `json:"bias"`       // ‖Δb‖²
	Zones      Zones     `json:"zones"`      //
	Complete   bool      `json:"complete"`   // the whole spectrum is known
	Sigma      []float64 `json:"sigma"`      // singular values at Layer.Ranks, as far as they are known
	Cumulative []float64 `json:"cumulative"` // share of the energy that the best approximation of that rank keeps
	// EffectiveRank is exp of the entropy of σ/Σσ (Roy and Vetterli 2007).
	EffectiveRank float64 `json:"effective_rank"`
	StableRank    float64 `json:"stable_rank"` // ‖ΔW‖²/σ₁²
	NumericalRank int     `json:"numerical_rank"`
	Rank90        int     `json:"rank_90"` // smallest rank that keeps 90 % of the energy
	Rank95        int     `json:"rank_95"`
	Rank99        int     `json:"rank_99"`
}

// LayerPair compares the deltas of two experts in one layer.
type LayerPair struct {
	Cosine float64 `json:"cosine"` // ⟨ΔWᵢ,ΔWⱼ⟩/(‖ΔWᵢ‖·‖ΔWⱼ‖)
	// SignConflict is the share of opposite signs among the elements that both
	// changed; SignChanged the share of all elements that both changed.
	SignConflict Figure  `json:"sign_conflict"`
	SignChanged  float64 `json:"sign_changed"`
	// LeftOverlap is the mean squared cosine of the principal angles between the
	// spans of the leading g left singular vectors, LeftCosine the largest
	// cosine; Right likewise.
	LeftOverlap  float64 `json:"left_overlap"`
	RightOverlap float64 `json:"right_overlap"`
	LeftCosine   float64 `json:"left_cosine"`
	RightCosine  float64 `json:"right_cosine"`
}

// Baseline is what independent random subspaces of dimension g overlap: mean and
// standard deviation of LeftOverlap (in m dimensions) and of RightOverlap (in n).
type Baseline struct {
	Left           float64 `json:"left"`
	LeftDeviation  float64 `json:"left_deviation"`
	Right          float64 `json:"right"`
	RightDeviation float64 `json:"right_deviation"`
	// Cosine is the standard deviation of the cosine of two independent deltas
	// without direction: 1/√(m·n). Its mean is 0.
	Cosine float64 `json:"cosine_deviation"`
}

// Pair compares two experts over all layers.
type Pair struct {
	A            int    `json:"a"`
	B            int    `json:"b"`
	Cosine       Figure `json:"cosine"` // of all linear layers' deltas as one vector
	SignConflict Figure `json:"sign_conflict"`
	LeftOverlap  Figure `json:"left_overlap"` // mean over the layers that both touched
	RightOverlap Figure `json:"right_overlap"`
	LeftBaseline Figure `json:"left_baseline"` // mean over the same layers
	// RightBaseline as LeftBaseline.
	RightBaseline Figure `json:"right_baseline"`
	Distance      Figure `json:"distance"` // ‖Δᵢ − Δⱼ‖/max(‖Δᵢ‖,‖Δⱼ‖); 0 for identical experts
}

// Loss is how much of one expert's change a fusion loses, relative:
// ‖ΔW_merged − ΔWᵢ‖²/‖ΔWᵢ‖². Null where the expert did not change anything. A
// merged model may lose more than everything: above 1.
type Loss struct {
	Average        Figure `json:"average"`         // ΔW_merged = mean of all deltas
	TaskArithmetic Figure `json:"task_arithmetic"` // λ·Σ of all deltas
	SMILE          Figure `json:"smile"`           // the rank-k truncation of its own: routed right
	// BestScaling is the λ with the smallest sum of losses over all experts, and
	// Best the loss there.
	BestScaling Figure `json:"best_scaling"`
	Best        Figure `json:"best"`
}

// RouterForecast is what weights tell of a router's mistakes: who is taken for
// whom, and the best that there can be. It is no forecast of how many
// tokens go astray, which depends on inputs; docs/format/analysis.md holds it against
// measurements.
type RouterForecast struct {
	// AtBest, by expert, is an upper bound: the share of tokens that go to the
	// task's own expert if they hold nothing but what its change listens to.
	AtBest []Figure `json:"at_best"`
	// Signal, by expert, is the share of a token's energy that must lie there, the
	// rest being without direction, for half of the tokens to go right; null
	// where all of it does not suffice.
	Signal []Figure `json:"signal"`
	// Astray[i][j] is the share of expert j among the tokens of i's task that go
	// astray at that signal: the rows sum to 1, Astray[i][i] is null, and so are
	// experts that did not touch the layer.
	Astray [][]Figure `json:"astray"`
}

// Group sums layers up.
type Group struct {
	By      string        `json:"by"`   // "kind", "depth" or "all"
	Name    string        `json:"name"` // the kind; or tower and depth
	Tower   string        `json:"tower,omitempty"`
	Depth   int           `json:"depth"` // −1 unless By is "depth"
	Layers  int           `json:"layers"`
	Experts []*GroupDelta `json:"experts"` // by expert; null where it touched none of them
}

// GroupDelta sums one expert's deltas in a group up: energies are added, ranks
// averaged over the touched layers.
type GroupDelta struct {
	Touched       int     `json:"touched"`
	Energy        float64 `json:"energy"`
	Share         float64 `json:"share"` // of the expert's energy over all layers
	Relative      Figure  `json:"relative"`
	Zones         Zones   `json:"zones"`
	EffectiveRank float64 `json:"effective_rank"`
	StableRank    float64 `json:"stable_rank"`
	Rank90        float64 `json:"rank_90"`
	Rank95        float64 `json:"rank_95"`
	Rank99        float64 `json:"rank_99"`
}

// Other is a changed tensor that is no weight of a linear layer: a bias, a norm,
// an embedding, a head, a convolution.
type Other struct {
	Name   string    `json:"name"`
	Kind   string    `json:"kind"`
	Energy []float64 `json:"energy"` // ‖Δ‖² by expert
	Share  []float64 `json:"share"`  // of all that the expert changed, by expert
	// Relative is ‖Δ‖/‖base's tensor‖ by expert: a norm's small energy may be a
	// large change.
	Relative []Figure `json:"relative"`
	Fused    bool     `json:"fused"`          // a bias that a fusion keeps by expert
	Note     string   `json:"note,omitempty"` // resized, the expert's own, …
}

// Advice is what follows from the figures.
type Advice struct {
	Budgets []Budget `json:"budgets"`
	// LeaveOut lists layers in which no expert has more than LeaveOutShare of its
	// energy together with the layers before in the list.
	LeaveOut      []LeaveOut `json:"leave_out"`
	LeaveOutShare float64    `json:"leave_out_share"`
	Copies        []Copy     `json:"near_copies"`
	// Others lists the tensors of Report.Others that no fusion keeps and that hold at least OthersShare of
	// some expert's whole change, or move by more than its linear layers do.
	Others      []string  `json:"others"`
	OthersShare float64   `json:"others_share"`
	Subspace    *Subspace `json:"subspace"` // null where nothing changed
	// Say is the advice in sentences, most important first.
	Say []string `json:"say"`
}

// Budget is a rank allocation: one water-filling over all layers and experts.
type Budget struct {
	Budget   float64 `json:"budget"`   // parameters relative to the base
	Feasible bool    `json:"feasible"` // false: the router alone takes more
	Ratio    float64 `json:"ratio"`    // reached
	// Energy, by expert, is the share of its change in linear layers that is kept.
	Energy []Figure `json:"energy"`
	Mean   float64  `json:"mean_energy"`
	// Uniform is the largest uniform rank that fits, 0 where none does, and
	// UniformMean the mean energy that it keeps.
	Uniform     int     `json:"uniform_rank"`
	UniformMean float64 `json:"uniform_mean_energy"`
	// Ranks, by layer and expert: −1 untouched, −2 whole.
	Ranks [][]int `json:"ranks"`
	// Bound says that the spectra of large layers were not deep enough to spend
	// all of the budget.
	Bound bool `json:"bound,omitempty"`
}

// LeaveOut is a layer that could stay the base's.
type LeaveOut struct {
	Layer      string  `json:"layer"`
	Share      float64 `json:"share"`      // largest share of an expert's energy in it
	Together   float64 `json:"together"`   // largest share in it and the layers before it in the list
	Parameters int64   `json:"parameters"` // saved at the asked rank
}

// Copy is a pair of experts that are nearly one.
type Copy struct {
	A        int     `json:"a"`
	B        int     `json:"b"`
	Cosine   float64 `json:"cosine"`
	Distance float64 `json:"distance"`
	Equal    bool    `json:"equal"` // in all linear layers
}

// Subspace says in which subspace of the base's inputs the changes so far are
// densest, for smelt adapter-init.
type Subspace struct {
	Choice string `json:"choice"` // minor, null or principal; empty where no zone stands out from chance
	Why    string `json:"why"`
}
