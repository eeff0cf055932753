/** What comes next, and what it throws at once as a promise that rejects, as if an async function had called it. */
export function callNext<Request, Response>(
  next: (request: Request) => Promise<Response>,
  request: Request,
): Promise<Response> {
  try {
    return next(request);
  } catch (error) {
    return Promise.reject(error);
  }
}
