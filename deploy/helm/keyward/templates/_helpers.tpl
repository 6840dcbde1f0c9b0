{{/* Names and labels. Helm limits names of releases to 53 characters, Kubernetes those of Services to 63. */}}
{{- define "keyward.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "keyward.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "keyward.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "keyward.selectorLabels" -}}
app.kubernetes.io/name: {{ include "keyward.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "keyward.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "keyward.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: keyward
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "keyward.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "keyward.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "keyward.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* The secret with certificate and key; empty without TLS. */}}
{{- define "keyward.tlsSecret" -}}
{{- if .Values.tls.existingSecret }}
{{- .Values.tls.existingSecret }}
{{- else if .Values.tls.certificate.create }}
{{- printf "%s-tls" (include "keyward.fullname" .) }}
{{- end }}
{{- end }}

{{- define "keyward.sqliteClaim" -}}
{{- default (printf "%s-data" (include "keyward.fullname" .)) .Values.database.sqlite.persistence.existingClaim }}
{{- end }}

{{/* What the schema cannot say, because it depends on several values. */}}
{{- define "keyward.validate" -}}
{{- if eq .Values.database.type "sqlite" }}
{{- if gt (int .Values.replicas) 1 }}
{{- fail "replicas: SQLite serves one replica only. Set replicas to 1, or database.type to postgres." }}
{{- end }}
{{- else }}
{{- if not .Values.database.postgres.existingSecret }}
{{- fail "database.postgres.existingSecret: name the Secret that holds the connection URL, or set database.type to sqlite." }}
{{- end }}
{{- if not .Values.tokens.existingSecret }}
{{- fail "tokens.existingSecret: PostgreSQL needs a Secret with the admin and the edge token, because replicas cannot agree on tokens that they make themselves." }}
{{- end }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}
{{- fail "ingress.host: name the host of the page." }}
{{- end }}
{{- if and .Values.tls.certificate.create (not .Values.tls.certificate.issuerRef.name) }}
{{- fail "tls.certificate.issuerRef.name: name the issuer of the certificate." }}
{{- end }}
{{- if and .Values.tls.clientCaSecret (not (include "keyward.tlsSecret" .)) }}
{{- fail "tls.clientCaSecret: client certificates need TLS. Set tls.existingSecret too." }}
{{- end }}
{{- if le (int .Values.terminationGracePeriodSeconds) (int .Values.preStopSleepSeconds) }}
{{- fail "terminationGracePeriodSeconds: it has to be longer than preStopSleepSeconds." }}
{{- end }}
{{- end }}
