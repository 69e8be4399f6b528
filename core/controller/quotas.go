package controller

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/metadata"
)

// The quotas, by Kafka's names (KIP-13, KIP-124, KIP-599, KIP-612).
const (
	ProducerByteRate       = "producer_byte_rate"
	ConsumerByteRate       = "consumer_byte_rate"
	RequestPercentage      = "request_percentage"
	ControllerMutationRate = "controller_mutation_rate"
	ConnectionCreationRate = "connection_creation_rate"
)

// quotaMax is the largest value of each quota; those that are 0 take any, and fractions.
var (
	clientQuotas = map[string]float64{ProducerByteRate: math.MaxInt64, ConsumerByteRate: math.MaxInt64, RequestPercentage: 0, ControllerMutationRate: 0}
	ipQuotas     = map[string]float64{ConnectionCreationRate: math.MaxInt32}
)

// The types of entities, and so of filters.
const (
	entityUser     = "user"
	entityClientID = "client-id"
	entityIP       = "ip"
)

// QuotaPart is a part of an entity: its type, and its name or nil for the default.
type QuotaPart struct {
	Type string
	Name *string
}

// QuotaOp sets one quota of an entity, or removes it.
type QuotaOp struct {
	Key    string
	Value  float64
	Remove bool
}

// QuotaAlteration is what is to become of an entity's quotas.
type QuotaAlteration struct {
	Entity []QuotaPart
	Ops    []QuotaOp
}

// AlterQuotas makes each alteration or says why not (KIP-546).
func (c *Controller) AlterQuotas(ctx context.Context, alterations []QuotaAlteration, validateOnly bool) []error {
	if err := c.plan.take(ctx); err != nil {
		return alike(len(alterations), err)
	}
	defer c.plan.give()
	errs := make([]error, len(alterations))
	quotas := c.Image().Quotas
	seen := map[string]bool{}
	cmd := &metadata.AlterQuotas{}
	var changed []int
	for n, a := range alterations {
		key := entityKey(a.Entity)
		if seen[key] {
			errs[n] = refuse(kerr.InvalidRequest, "Ignoring duplicate entity %s", key)
			continue
		}
		seen[key] = true
		changes, err := quotaChanges(quotas, a)
		if errs[n] = err; err == nil && len(changes) > 0 {
			cmd.Changes, changed = append(cmd.Changes, changes...), append(changed, n)
		}
	}
	if validateOnly || len(cmd.Changes) == 0 {
		return errs
	}
	if _, err := c.propose(ctx, cmd); err != nil {
		for _, n := range changed {
			errs[n] = err
		}
	}
	return errs
}

// entityKey tells entities apart, whatever the order of their parts and however unfit they are.
func entityKey(parts []QuotaPart) string {
	var list []string
	for _, p := range parts {
		name := "default"
		if p.Name != nil {
			name = fmt.Sprintf("%q", *p.Name)
		}
		list = append(list, p.Type+"="+name)
	}
	slices.Sort(list)
	return "{" + strings.Join(list, ", ") + "}"
}

// quotaChanges are the operations that change something.
func quotaChanges(quotas *metadata.ClientQuotas, a QuotaAlteration) ([]metadata.QuotaChange, error) {
	entity, known, err := quotaEntity(a.Entity)
	if err != nil {
		return nil, err
	}
	var changes []metadata.QuotaChange
	current := quotas.Of(entity)
	seen := map[string]bool{}
	for _, o := range a.Ops {
		if seen[o.Key] {
			return nil, refuse(kerr.InvalidRequest, "Duplicate quota key %s not updating quota for this entity %s", o.Key, entityKey(a.Entity))
		}
		seen[o.Key] = true
		old, set := current[o.Key]
		if o.Remove {
			if set {
				changes = append(changes, metadata.QuotaChange{Entity: entity, Key: o.Key, Remove: true})
			}
			continue
		}
		if err := checkQuota(known, o.Key, o.Value); err != nil {
			return nil, err
		}
		if !set || old != o.Value {
			changes = append(changes, metadata.QuotaChange{Entity: entity, Key: o.Key, Value: o.Value})
		}
	}
	return changes, nil
}

// quotaEntity checks an entity, and says which quotas it may have.
func quotaEntity(parts []QuotaPart) (e metadata.QuotaEntity, known map[string]float64, err error) {
	for _, p := range parts {
		at := partOf(&e, p.Type)
		if at == nil {
			return e, nil, refuse(kerr.InvalidRequest, "Unhandled client quota entity type: %s", p.Type)
		}
		if p.Name != nil && *p.Name == "" {
			return e, nil, refuse(kerr.InvalidRequest, "Empty %s not supported", p.Type)
		}
		*at = metadata.QuotaName{Given: true}
		if p.Name != nil {
			at.Name = *p.Name
		}
	}
	switch {
	case e == metadata.QuotaEntity{}:
		return e, nil, refuse(kerr.InvalidRequest, "Invalid empty client quota entity")
	case !e.IP.Given:
		return e, clientQuotas, nil
	case e.User.Given || e.ClientID.Given:
		return e, nil, refuse(kerr.InvalidRequest, "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId") //nolint:misspell // Kafka's words
	case e.IP.Name != "":
		addr, err := netip.ParseAddr(e.IP.Name)
		if err != nil {
			return e, nil, refuse(kerr.InvalidRequest, "%s is not a valid IP or resolvable host.", e.IP.Name)
		}
		e.IP.Name = addr.Unmap().String() // as it is looked up
	}
	return e, ipQuotas, nil
}

func partOf(e *metadata.QuotaEntity, typ string) *metadata.QuotaName {
	switch typ {
	case entityUser:
		return &e.User
	case entityClientID:
		return &e.ClientID
	case entityIP:
		return &e.IP
	}
	return nil
}

func checkQuota(known map[string]float64, key string, value float64) error {
	most, ok := known[key]
	switch {
	case !ok:
		return refuse(kerr.InvalidRequest, "Invalid configuration key %s", key)
	case math.IsNaN(value) || value <= 0:
		return refuse(kerr.InvalidRequest, "Quota %s must be greater than 0", key)
	case most > 0 && value > most:
		return refuse(kerr.InvalidRequest, "Proposed value for %s is too large for %s.", key, map[bool]string{true: "an INT", false: "a LONG"}[most == math.MaxInt32])
	case most > 0 && math.Mod(value, 1) > 1e-6:
		return refuse(kerr.InvalidRequest, "%s cannot be a fractional value.", key)
	}
	return nil
}

// QuotaFilter is a condition of DescribeQuotas.
type QuotaFilter struct {
	Type  string
	Match int8 // 0 the name, 1 the default, 2 any
	Name  *string
}

// EntityQuotas are an entity's quotas.
type EntityQuotas struct {
	Entity []QuotaPart
	Values map[string]float64 // not to be changed
}

// DescribeQuotas lists the entities that meet every filter; strict leaves out those with other parts, too.
func (c *Controller) DescribeQuotas(filters []QuotaFilter, strict bool) ([]EntityQuotas, error) {
	if err := checkFilters(filters); err != nil {
		return nil, err
	}
	quotas := c.Image().Quotas
	var list []EntityQuotas
	for _, e := range quotas.Entities() {
		if matches(e, filters, strict) {
			list = append(list, EntityQuotas{partsOf(e), quotas.Of(e)})
		}
	}
	return list, nil
}

func checkFilters(filters []QuotaFilter) error {
	seen := map[string]bool{}
	for _, f := range filters {
		switch {
		case f.Type == "":
			return refuse(kerr.InvalidRequest, "Invalid empty entity type.")
		case seen[f.Type]:
			return refuse(kerr.InvalidRequest, "Entity type %s cannot appear more than once in the filter.", f.Type)
		case partOf(&metadata.QuotaEntity{}, f.Type) == nil:
			return refuse(kerr.UnsupportedVersion, "Unsupported entity type %s", f.Type)
		case f.Match < 0 || f.Match > 2:
			return refuse(kerr.InvalidRequest, "Unknown match type %d", f.Match)
		case f.Match == 0 && f.Name == nil:
			return refuse(kerr.InvalidRequest, "Request specified MATCH_TYPE_EXACT, but set match string to null.")
		case f.Match != 0 && f.Name != nil:
			return refuse(kerr.InvalidRequest, "Request specified %s, but also specified a match string.", []string{1: "MATCH_TYPE_DEFAULT", 2: "MATCH_TYPE_SPECIFIED"}[f.Match])
		}
		seen[f.Type] = true
	}
	if seen[entityIP] && len(seen) > 1 {
		return refuse(kerr.InvalidRequest, "Invalid entity filter component combination. IP filter component should not be used with user or clientId filter component.")
	}
	return nil
}

func matches(e metadata.QuotaEntity, filters []QuotaFilter, strict bool) bool {
	for _, f := range filters {
		n := partOf(&e, f.Type)
		if !n.Given || f.Match == 1 && n.Name != "" || f.Match == 0 && (n.Name != *f.Name || n.Name == "") {
			return false
		}
	}
	return !strict || len(partsOf(e)) == len(filters)
}

func partsOf(e metadata.QuotaEntity) (parts []QuotaPart) {
	for _, typ := range []string{entityUser, entityClientID, entityIP} {
		n := partOf(&e, typ)
		if !n.Given {
			continue
		}
		p := QuotaPart{Type: typ}
		if n.Name != "" {
			p.Name = &n.Name
		}
		parts = append(parts, p)
	}
	return parts
}
