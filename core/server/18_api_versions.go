package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
)

// ApiVersions (key 18), versions 0–5. v3 flexible, with the client's software
// and our features (KIP-511, KIP-584); v4 lets a feature's minimum be 0
// (KAFKA-17011); v5 lets a client check whom it reached (KIP-1242).

// feature is a range of levels that this server can run at.
type feature struct {
	name     string
	min, max int16
	level    int16 // finalized, unless the Image says otherwise
}

// features are Kafka 4.4's, as far as we have what they stand for.
var features = []feature{
	{name: "eligible.leader.replicas.version", min: 0, max: 1}, // KIP-966
	{name: "group.version", min: 0, max: 1, level: 1},          // KIP-848
	{name: "metadata.version", min: 7, max: 33, level: 33},     // 3.3-IV3 to 4.4-IV2
	{name: "transaction.version", min: 0, max: 2, level: 2},    // KIP-890
}

// finalized is the level that clients go by. What is agreed beyond what this server has is not for them.
func (f feature) finalized(img *metadata.Image) int16 {
	level, agreed := img.Features[f.name]
	if !agreed {
		level = f.level
	}
	return min(level, f.max)
}

func (s *Server) apiVersions(r *request) kmsg.Response {
	req := r.body.(*kmsg.ApiVersionsRequest)
	resp := kmsg.NewPtrApiVersionsResponse()
	img := s.d.Controller.Image()
	if req.Version >= 3 && !(softwareName(req.ClientSoftwareName) && softwareName(req.ClientSoftwareVersion)) {
		resp.ErrorCode = kerr.InvalidRequest.Code
		return resp
	}
	if req.Version >= 5 {
		switch {
		case (req.ClusterID == nil) != (req.NodeID < 0):
			resp.ErrorCode = kerr.InvalidRequest.Code
			return resp
		case req.ClusterID != nil && (*req.ClusterID != img.ClusterID || req.NodeID != int32(s.d.NodeID)):
			resp.ErrorCode = kerr.RebootstrapRequired.Code
			return resp
		}
	}
	resp.ApiKeys = s.advertised()
	resp.FinalizedFeaturesEpoch = int64(img.Index)
	for _, f := range features {
		if f.min > 0 || req.Version >= 4 { // older clients take a minimum of 0 for an error
			sf := kmsg.NewApiVersionsResponseSupportedFeature()
			sf.Name, sf.MinVersion, sf.MaxVersion = f.name, f.min, f.max
			resp.SupportedFeatures = append(resp.SupportedFeatures, sf)
		}
		if level := f.finalized(img); level > 0 {
			ff := kmsg.NewApiVersionsResponseFinalizedFeature()
			ff.Name, ff.MaxVersionLevel, ff.MinVersionLevel = f.name, level, level
			resp.FinalizedFeatures = append(resp.FinalizedFeatures, ff)
		}
	}
	return resp
}

// advertised is the table as clients see it.
func (s *Server) advertised() []kmsg.ApiVersionsResponseApiKey {
	var out []kmsg.ApiVersionsResponseApiKey
	for _, a := range s.apis {
		if a == nil {
			continue
		}
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = int16(a.key), a.min, a.max
		out = append(out, k)
	}
	return out
}

// unsupportedApiVersions answers a version that we do not know, in the form that
// every client reads: version 0 (KIP-511). It has the ranges, so that the client can ask again.
func (s *Server) unsupportedApiVersions() kmsg.Response {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.SetVersion(0)
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	resp.ApiKeys = s.advertised()
	return resp
}

// softwareName is KIP-511's [a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?
func softwareName(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		word := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !word && (c != '-' && c != '.' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return true
}
