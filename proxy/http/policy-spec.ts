// The policies of a route as plain data: what ingress/annotations.ts reads out of an object and the workers compile.

export interface PolicySpec { readonly placeholder?: undefined }
