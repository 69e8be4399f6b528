package server

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
)

// UpdateFeatures (key 57), versions 0–2 (KIP-584, KIP-778). Each feature has the level that it has; a cluster raises its own by itself,
// so what asks for that is done, and all else is refused. Like Kafka's FeatureControlManager, all updates fail with the first one that does.

// unserved are Kafka's features of what is not served here; they stay at level 0.
var unserved = []string{"kraft.version", "share.version", "streams.version"}

// upgrade is the type of an update that may not lower a level; beyond unsafeDowngrade there is none.
const upgrade, unsafeDowngrade = 1, 3

func (s *Server) updateFeatures(r *request) kmsg.Response {
	req := r.body.(*kmsg.UpdateFeaturesRequest)
	resp := kmsg.NewPtrUpdateFeaturesResponse()
	img := s.d.Controller.Image()
	for _, u := range req.FeatureUpdates {
		if req.Version == 0 {
			u.UpgradeType = upgrade
		}
		if why := refusedUpdate(img, u); why != "" {
			text := fmt.Sprintf("The update failed for all features since the following feature had an error: Invalid update version %d for feature %s. %s", u.MaxVersionLevel, u.Feature, why)
			resp.ErrorCode, resp.ErrorMessage, resp.Results = kerr.InvalidUpdateVersion.Code, &text, nil
			return resp
		}
		out := kmsg.NewUpdateFeaturesResponseResult()
		out.Feature = u.Feature
		resp.Results = append(resp.Results, out)
	}
	return resp
}

// refusedUpdate says why an update cannot be made; "": there is nothing to do for it.
func refusedUpdate(img *metadata.Image, u kmsg.UpdateFeaturesRequestFeatureUpdate) string {
	var f feature
	if n := slices.IndexFunc(features, func(f feature) bool { return f.name == u.Feature }); n >= 0 {
		f = features[n]
	} else if !slices.Contains(unserved, u.Feature) {
		return "There is no such feature."
	}
	have := f.finalized(img)
	switch {
	case u.UpgradeType < upgrade || u.UpgradeType > unsafeDowngrade:
		return "The controller does not support the given upgrade type."
	case u.MaxVersionLevel < 0:
		return "A feature version cannot be less than 0."
	case u.MaxVersionLevel < f.min || u.MaxVersionLevel > f.max:
		return fmt.Sprintf("It is supported from %d to %d.", f.min, f.max)
	case u.MaxVersionLevel < have && u.UpgradeType == upgrade:
		return "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade."
	case u.MaxVersionLevel > have && u.UpgradeType != upgrade:
		return "Can't downgrade to a newer version."
	case u.MaxVersionLevel != have:
		return fmt.Sprintf("It is %d here and cannot be changed by hand.", have)
	}
	return ""
}
