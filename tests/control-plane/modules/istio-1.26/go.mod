module keyward.test/istio-1.26

go 1.26.0

require istio.io/istio v0.0.0-20250506181944-c2e9871f340c
