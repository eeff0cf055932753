/** Health and reflection, of which load balancers and tools ask every few seconds. */
export function isPlatformService(typeName: string): boolean {
  return /^grpc\.(health|reflection)\./.test(typeName);
}
