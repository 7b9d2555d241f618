/** Members of ComfyUI's `extra_data` with which others' services are paid for: they are kept nowhere. */
export const SECRET_NAMES = ['auth_token_comfy_org', 'api_key_comfy_org'];
